//! What servers with state promise their clients in the running system: that they see nothing of their deaths.

use std::io::Write;

use crate::harness::{Outcome, Test};
use crate::tool::Tool;

/// The promises, one by one.
pub const TESTS: &[Test] = &[
    Test::case("survival/clients_of_the_ledger_move_money_and_see_none_of_its_deaths", |tool| {
        survives(tool, &["--smp", "2"], LEDGER, &["tellers", if tool.long() { "200" } else { "20" }])
    }),
    Test::case("survival/so_do_they_where_instructions_are_counted", |tool| {
        survives(tool, &["--icount"], LEDGER, &["tellers", "1"])
    }),
    Test::case("survival/a_heap_that_outlives_its_server_holds_what_was_committed", |tool| {
        survives(tool, &["--smp", "2"], PAGES, &["paging", if tool.long() { "200" } else { "15" }])
    }),
];

const LEDGER: &str = "\
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
    priority  140
    holds     sched-control supervise
";

const PAGES: &str = "\
component pages
    start     boot
    state     128K
    serves    pages
    holds     sched-control
    restart   always
    priority  120
component paging
    memory    2M
    state     4K
    calls     pages
    priority  140
    holds     sched-control supervise
";

fn survives(tool: &Tool, options: &[&str], manifest: &str, command: &[&str]) -> Outcome {
    let mut file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    file.write_all(manifest.as_bytes()).map_err(|error| error.to_string())?;
    let path = file.path().display().to_string();
    let run = tool.run([&["exec"], options, &["--manifest", &path, "--"], command].concat())?;
    run.ended_with(0)?;
    if run.stdout.contains("none lost or doubled") {
        Ok(())
    } else {
        Err(run.told("it should say what it did"))
    }
}
