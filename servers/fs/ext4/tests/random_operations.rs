//! Random operations on a volume and on a reference model, with remounts; Linux's check after every run.

mod disk;
mod linux;
mod model;

use disk::{Disk, is_long};
use model::{MIXED, Mix, Model};

/// Does `count` operations in runs of 500, with a remount and a check after each run; with an image of `megabytes`.
fn run(seed: u64, count: usize, megabytes: u64, options: &[&str], mix: Mix, delay: u64) -> usize {
    let disk = Disk::new(linux::make_image(megabytes, options));
    let mut volume = disk.mount(400).unwrap();
    let mut model = Model::new(&volume, seed, mix);
    disk.delay_reads(delay);
    while model.operation < count {
        for _ in 0..500 {
            model.step(&mut volume);
        }
        model.check(&volume);
        disk.delay_reads(0);
        model.close_all(&mut volume);
        volume.unmount().unwrap();
        linux::assert_clean(&disk.bytes(), &format!("seed {seed}, operation {}", model.operation));
        volume = disk.mount(400).unwrap();
        model.check(&volume);
        disk.delay_reads(delay);
    }
    model.full
}

fn operations(share: usize) -> usize {
    if is_long() { share * 20 } else { share }
}

#[test]
fn operations_on_blocks_of_1_kib_match_the_model() {
    run(1, operations(30_000), 16, &["-b", "1024"], MIXED, 0);
}

#[test]
fn operations_on_blocks_of_4_kib_match_the_model() {
    run(2, operations(30_000), 32, &["-b", "4096"], MIXED, 0);
}

#[test]
fn operations_on_blocks_of_2_kib_without_checksums_match_the_model() {
    run(3, operations(10_000), 16, &["-b", "2048", "-O", "^metadata_csum"], MIXED, 0);
}

#[test]
fn operations_on_a_full_volume_fail_whole_and_match_the_model() {
    let mix = Mix { reach: 3_000_000, write: 150_000, ..MIXED };
    let full = run(4, operations(15_000), 8, &["-b", "1024", "-N", "200", "-m", "0"], mix, 0);
    assert!(full > 100, "space ran out only {full} times");
}

#[test]
fn operations_whose_blocks_arrive_late_are_repeated_and_match_the_model() {
    run(5, operations(15_000), 16, &["-b", "1024"], MIXED, 3);
}

#[test]
fn operations_on_a_volume_of_ext3_match_the_model() {
    let mix = Mix { block_maps: true, ..MIXED };
    run(6, operations(10_000), 16, &["-t", "ext3", "-b", "1024"], mix, 0);
    run(7, operations(5_000), 16, &["-t", "ext3", "-b", "1024"], mix, 3);
}
