//! What the ledger promises its clients in the running system: that they see nothing of its deaths.

use std::io::Write;

use crate::harness::{Outcome, Test};
use crate::tool::Tool;

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("ledger/several_clients_move_money_and_see_none_of_its_deaths", |tool| {
        tellers(tool, &["--smp", "2"], if tool.long() { 200 } else { 20 })
    }),
    Test::case("ledger/so_do_they_where_instructions_are_counted", |tool| tellers(tool, &["--icount"], 4)),
];

const MANIFEST: &str = "\
component ledger
    start     boot
    state     64K
    serves    ledger
    restart   always
    priority  120
component tellers
    memory    2M
    state     4K
    calls     ledger
    holds     sched-control supervise
";

fn tellers(tool: &Tool, options: &[&str], deaths: u32) -> Outcome {
    let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.write_all(MANIFEST.as_bytes()).map_err(|error| error.to_string())?;
    let (path, deaths) = (file.path().display().to_string(), deaths.to_string());
    let run = tool.run([&["exec"], options, &["--manifest", &path, "--", "tellers", &deaths]].concat())?;
    run.ended_with(0)?;
    if run.stdout.contains("none lost or doubled") {
        Ok(())
    } else {
        Err(run.told("it should say what it did"))
    }
}
