//! This crate beside rsext4 0.9.2 in the same run, on disks in memory.
//!
//! Criterion runs the short workloads and prints its own figures; the table at the end shows the median of the same
//! runs. The large directory is made once by each.

mod engine;
#[path = "../memory/mod.rs"]
mod memory;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;

use engine::{Engine, Ours, Theirs};
use memory::{Memory, made_by_us};

const MIB: usize = 1 << 20;
const DISK: usize = 384 * MIB;
const INODES: u32 = 120_000;
/// Enough to visit each leaf of the larger directory several times, as a server that stays mounted does.
const LOOK_UPS: usize = 20_000;

/// How a result is shown: so many units were done in a run.
enum Unit {
    /// Megabytes (of a million bytes) in a second: the bytes of a run.
    Throughput(usize),
    /// Microseconds for one: the number in a run.
    Each(usize),
}

struct Row {
    name: &'static str,
    unit: Unit,
    ours: Duration,
    theirs: Duration,
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn sequential_write(engine: &mut dyn Engine) -> Duration {
    let data = vec![0x5a; MIB];
    let file = engine.create(engine.root(), "sequential");
    let started = Instant::now();
    for n in 0..64 {
        engine.write(file, (n * MIB) as u64, &data);
    }
    engine.sync();
    started.elapsed()
}

fn sequential_read(engine: &mut dyn Engine) -> Duration {
    let file = engine.create(engine.root(), "sequential");
    let mut data = vec![0x5a; MIB];
    for n in 0..64 {
        engine.write(file, (n * MIB) as u64, &data);
    }
    engine.sync();
    let started = Instant::now();
    for n in 0..64 {
        engine.read(file, (n * MIB) as u64, &mut data);
        black_box(&data);
    }
    started.elapsed()
}

fn appends(engine: &mut dyn Engine) -> Duration {
    let data = [7; 4096];
    let file = engine.create(engine.root(), "appends");
    let started = Instant::now();
    for n in 0..4096 {
        engine.write(file, n * 4096, &data);
    }
    engine.sync();
    started.elapsed()
}

fn overwrites(engine: &mut dyn Engine) -> Duration {
    let data = [7; 4096];
    let file = engine.create(engine.root(), "overwrites");
    engine.write(file, 0, &vec![1; 16 * MIB]);
    engine.sync();
    let mut state = 1;
    let started = Instant::now();
    for _ in 0..4096 {
        engine.write(file, random(&mut state) % 4096 * 4096, &data);
    }
    engine.sync();
    started.elapsed()
}

fn small_files(engine: &mut dyn Engine) -> Duration {
    let data = [7; 2048];
    let dir = engine.make_dir(engine.root(), "small");
    let started = Instant::now();
    for n in 0..1000 {
        let file = engine.create(dir, &format!("small file {n}"));
        engine.write(file, 0, &data);
    }
    engine.sync();
    started.elapsed()
}

fn look_ups(engine: &mut dyn Engine, names: usize) -> Duration {
    let dir = engine.look_up(engine.root(), "many");
    let mut state = 2;
    let started = Instant::now();
    for _ in 0..LOOK_UPS {
        let n = random(&mut state) as usize % names;
        black_box(engine.look_up(dir, &format!("name {n}")));
    }
    started.elapsed()
}

fn many_files(engine: &mut dyn Engine) -> Duration {
    let dir = engine.make_dir(engine.root(), "directory");
    let started = Instant::now();
    for n in 0..40_000 {
        engine.create(dir, &format!("file number {n}"));
    }
    engine.sync();
    started.elapsed()
}

/// A volume with a directory of this many names; both engines mount the same one.
fn with_names(count: usize) -> Vec<u8> {
    // Four groups, for the inodes.
    let mut engine = Ours::new(Memory::new(made_by_us(512 * MIB, INODES)));
    let dir = engine.make_dir(engine.root(), "many");
    for n in 0..count {
        engine.create(dir, &format!("name {n}"));
    }
    engine.finish()
}

/// Runs a workload in both engines, under criterion.
fn compare(
    criterion: &mut Criterion,
    name: &'static str,
    unit: Unit,
    image: Option<&[u8]>,
    work: impl Fn(&mut dyn Engine) -> Duration,
) -> Row {
    let mut medians = [Duration::ZERO; 2];
    for (which, label) in ["ext4", "rsext4"].into_iter().enumerate() {
        let mut times = Vec::new();
        criterion.bench_function(&format!("{name}/{label}"), |bencher| {
            bencher.iter_custom(|runs| {
                (0..runs)
                    .map(|_| {
                        let mut engine: Box<dyn Engine> = match (which, image) {
                            (0, None) => Box::new(Ours::new(Memory::new(made_by_us(DISK, INODES)))),
                            (0, Some(image)) => Box::new(Ours::new(Memory::new(image.to_vec()))),
                            (_, None) => Box::new(Theirs::formatted(DISK)),
                            (_, Some(image)) => Box::new(Theirs::new(Memory::new(image.to_vec()))),
                        };
                        let time = work(engine.as_mut());
                        times.push(time);
                        time
                    })
                    .sum()
            });
        });
        medians[which] = median(times);
    }
    Row { name, unit, ours: medians[0], theirs: medians[1] }
}

fn show(row: &Row) {
    let seconds = |time: Duration| time.as_secs_f64();
    let (ours, theirs, unit) = match row.unit {
        Unit::Throughput(bytes) => {
            (bytes as f64 / 1e6 / seconds(row.ours), bytes as f64 / 1e6 / seconds(row.theirs), "MB/s")
        }
        Unit::Each(count) => {
            (seconds(row.ours) * 1e6 / count as f64, seconds(row.theirs) * 1e6 / count as f64, "µs each")
        }
    };
    let ratio = seconds(row.theirs) / seconds(row.ours);
    println!("| {} | {ours:.2} {unit} | {theirs:.2} {unit} | {ratio:.1} |", row.name);
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    let c = &mut criterion;
    let bytes = Unit::Throughput;
    let (few, many) = (with_names(2000), with_names(100_000));
    let mut rows = vec![
        compare(c, "sequential write, 64 MiB", bytes(64 * MIB), None, sequential_write),
        compare(c, "sequential read, 64 MiB", bytes(64 * MIB), None, sequential_read),
        compare(c, "append 4 KiB", Unit::Each(4096), None, appends),
        compare(c, "overwrite 4 KiB at random", Unit::Each(4096), None, overwrites),
        compare(c, "create and write 2 KiB", Unit::Each(1000), None, small_files),
        compare(c, "look-up in 2,000 names", Unit::Each(LOOK_UPS), Some(&few), |e| look_ups(e, 2000)),
        compare(c, "look-up in 100,000 names", Unit::Each(LOOK_UPS), Some(&many), |e| look_ups(e, 100_000)),
    ];
    // Large enough for rsext4's format to have as many inodes.
    let ours = many_files(&mut Ours::new(Memory::new(made_by_us(2048 * MIB, INODES))));
    let theirs = many_files(&mut Theirs::formatted(2048 * MIB));
    rows.push(Row { name: "40,000 files in one directory", unit: Unit::Each(40_000), ours, theirs });

    println!("\n| workload | ext4 | rsext4 0.9.2 | times faster |\n|---|---|---|---|");
    rows.iter().for_each(show);
    let flushes = |engine: &mut dyn Engine| {
        let before = engine.flushes();
        appends(engine);
        engine.flushes() - before
    };
    let ours = flushes(&mut Ours::new(Memory::new(made_by_us(DISK, INODES))));
    let theirs = flushes(&mut Theirs::formatted(DISK));
    println!("| flushes for 4,096 appends and a sync | {ours} | {theirs} | |");
}
