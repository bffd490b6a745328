//! The benchmark under counted instructions: figures repeat, so they may be asserted.

use serde_json::Value;

use crate::harness::{Outcome, Test};
use crate::tool::Tool;

/// What is asserted of the figures.
pub const TESTS: &[Test] =
    &[Test::case("bench/figures_are_within_their_bounds_and_the_same_each_time", bounded_and_repeatable)];

fn bounded_and_repeatable(tool: &Tool) -> Outcome {
    let (first, second) = (measured(tool)?, measured(tool)?);
    if first == second {
        return Ok(());
    }
    Err(format!("two runs differ:\n{first:#}\n{second:#}"))
}

/// The results of one run, which must keep all bounds.
fn measured(tool: &Tool) -> Result<Value, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("ipc.json");
    let mut arguments: Vec<_> = ["bench", "ipc", "--icount", "--check", "--json"].map(Into::into).into();
    arguments.push(file.clone().into_os_string());
    let run = tool.run(arguments)?;
    run.ended_with(0)?;
    let text = std::fs::read_to_string(&file).map_err(|error| run.told(&error.to_string()))?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(document["results"].take())
}
