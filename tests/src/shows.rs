//! The commands that the documentation names, run as a user types them: `tests/shows` has them, with what they come to.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use xtask::workspace;

use crate::harness::{Outcome, Suite, Test};
use crate::host;
use crate::tool::{Run, Tool};

/// All of them.
pub const TESTS: &[Test] = &[Test::many("shows", all)];

/// The file that has them.
const SHOWS: &str = include_str!("../shows");

/// A command and what it must come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Show<'a> {
    command: &'a str,
    /// What the documentation has for it.
    documented_as: Vec<&'a str>,
    status: i32,
    says: Vec<&'a str>,
    does_not_say: Vec<&'a str>,
    /// The test that runs it instead.
    by: Option<&'a str>,
    /// Why no test runs it.
    not: Option<&'a str>,
}

impl<'a> Show<'a> {
    /// Reads the file; an error names the line.
    fn read_all(text: &'a str) -> Result<Vec<Show<'a>>, String> {
        let mut shows: Vec<Show> = Vec::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (number, line) in lines {
            let wrong = || format!("tests/shows:{}: {line}", number + 1);
            if let Some(command) = line.strip_prefix("$ ") {
                shows.push(Show { command, ..Show::default() });
                continue;
            }
            let show = shows.last_mut().ok_or_else(wrong)?;
            let (word, rest) =
                line.strip_prefix("  ").and_then(|line| line.split_once(' ')).ok_or_else(wrong)?;
            match word {
                "as" => show.documented_as.push(rest),
                "=" => show.status = rest.parse().map_err(|_| wrong())?,
                ">" => show.says.push(rest),
                "!" => show.does_not_say.push(rest),
                "by" => show.by = Some(rest),
                "not" => show.not = Some(rest),
                _ => return Err(wrong()),
            }
        }
        Ok(shows)
    }

    /// Returns true if a documented command is this one, or a beginning of it.
    fn covers(&self, documented: &str) -> bool {
        [self.command].iter().chain(&self.documented_as).any(|text| {
            text.strip_prefix(documented).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    }

    fn run(&self) -> Outcome {
        let output = Command::new("sh").args(["-c", self.command]).current_dir(workspace::root()).output();
        let output = output.map_err(|error| format!("cannot start sh: {error}"))?;
        let run = Run::from(output);
        run.ended_with(self.status)?;
        let has = |part: &&&str| run.stdout.contains(**part) || run.stderr.contains(**part);
        if let Some(part) = self.says.iter().find(|part| !has(part)) {
            return Err(run.told(&format!("it should have said {part:?}")));
        }
        match self.does_not_say.iter().find(has) {
            None => Ok(()),
            Some(part) => Err(run.told(&format!("it should not have said {part:?}"))),
        }
    }
}

fn all(_: &Tool, filter: Option<&str>, suite: &mut Suite) {
    let shows = match Show::read_all(SHOWS) {
        Ok(shows) => shows,
        Err(complaint) => return suite.record("are_read", Err(complaint)),
    };
    let documented = missing(&shows).and_then(|missing| match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("tests/shows lacks:\n{}", missing.join("\n"))),
    });
    suite.record("have_every_documented_command", documented);
    let wanted = |show: &&Show| filter.is_none_or(|filter| show.command.contains(filter));
    for show in shows.iter().filter(wanted) {
        match (show.by, show.not) {
            (None, None) => suite.record(show.command, show.run()),
            (Some(by), _) => println!("shows: {}: see {by}", show.command),
            (None, Some(why)) => println!("shows: {}: not run: {why}", show.command),
        }
    }
}

/// The commands in a page of Markdown: lines of code blocks, and spans of code.
fn commands_in(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if let Some(code) = line.strip_prefix("    ").or(fenced.then_some(line)) {
            found.extend(command(without_remark(code)));
        } else {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    found.extend(prose.split('`').skip(1).step_by(2).filter_map(command));
    found
}

/// A line of a code block without what is said of it, behind two spaces or a `#`.
fn without_remark(line: &str) -> &str {
    let line = line.trim();
    let end = ["  ", " #"].iter().filter_map(|mark| line.find(mark)).min();
    &line[..end.unwrap_or(line.len())]
}

/// A text as a command, its words with one space between, if it is one that a user types.
fn command(text: &str) -> Option<String> {
    const BEGINNINGS: [&str; 7] = ["run", "test", "bench", "clippy", "doc", "deny", "xtask"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_one = match words[..] {
        ["cargo", verb, ..] => BEGINNINGS.contains(&verb),
        ["skink>", _, ..] => true,
        _ => false,
    };
    is_one.then(|| words.join(" "))
}

/// The crate whose tests a command runs, each of which is a suite here: `cargo test -p NAME`, with others or options.
fn tests_of_crates(command: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = command.strip_prefix("cargo test ")?.split(' ').collect();
    let names: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "-p").map(|pair| pair[1]).collect();
    (!names.is_empty() && words.len() >= 2 * names.len()).then_some(names)
}

/// The pages of a folder and those below it, but for the history and what was built.
fn pages_below(folder: &Path, pages: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            pages_below(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") && name != "CHANGELOG.md" {
            pages.push(path);
        }
    }
    Ok(())
}

/// Returns true if a documented command is run here, or is one that runs tests that a suite runs.
fn is_shown(shows: &[Show], command: &str) -> bool {
    let is_suite =
        |name: &&str| host::TESTS.iter().any(|test| test.name.strip_prefix("host/") == Some(*name));
    command == "cargo test"
        || shows.iter().any(|show| show.covers(command))
        || tests_of_crates(command).is_some_and(|names| names.iter().all(is_suite))
}

/// The commands of the documentation and of help that are not shown, each with its page.
fn missing(shows: &[Show]) -> Result<Vec<String>, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut pages = Vec::new();
    pages_below(&workspace::root(), &mut pages).map_err(told)?;
    let mut missing = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).map_err(told)?;
        let commands = commands_in(&text).into_iter().filter(|command| !is_shown(shows, command));
        missing.extend(commands.map(|command| format!("{}: {command}", page.display())));
    }
    let cli = <xtask::cli::Cli as CommandFactory>::command();
    let help = cli.get_after_help().map(ToString::to_string).unwrap_or_default();
    let commands = help.lines().filter_map(|line| command(without_remark(line)));
    missing.extend(commands.filter(|command| !is_shown(shows, command)));
    if pages.is_empty() || help.is_empty() {
        return Err("there is no documentation".to_owned());
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows() -> Vec<Show<'static>> {
        Show::read_all(SHOWS).expect("a well-formed file")
    }

    #[test]
    fn every_command_of_the_documentation_and_of_help_is_shown() {
        assert_eq!(missing(&shows()), Ok(Vec::new()));
    }

    #[test]
    fn a_command_is_found_wherever_a_page_has_it() {
        let page = "Run `cargo run --\n  frobnicate` or\n\n    cargo bench  it measures\n\n```\n$ ls\nskink> demo\n```\nor `cargo`";
        assert_eq!(commands_in(page), ["cargo bench", "skink> demo", "cargo run -- frobnicate"]);
        assert!(!is_shown(&shows(), "cargo run -- frobnicate"));
        assert!(!is_shown(&shows(), "cargo test -p no-such-crate"));
    }

    #[test]
    fn every_test_that_runs_a_command_instead_is_there() {
        let tests = crate::SUITES.concat();
        for show in shows() {
            let Some(by) = show.by else { continue };
            assert!(tests.iter().any(|test| test.name.starts_with(by)), "{}: no test {by}", show.command);
        }
    }

    /// Only long measurements and tests may go unrun, and what they name must exist.
    #[test]
    fn what_no_test_runs_is_a_benchmark_or_a_release_build_that_is_there() {
        let folder = |package: &str| match package {
            "ext4" => workspace::root().join("servers/fs/ext4"),
            other => panic!("where is {other}?"),
        };
        for show in shows().iter().filter(|show| show.not.is_some()) {
            let words: Vec<&str> = show.command.split(' ').collect();
            let there = match words[..] {
                ["cargo", "bench", "-p", package, "--bench", name] => {
                    folder(package).join("benches").join(name)
                }
                ["cargo", "test", "--release", "-p", package] => folder(package).join("tests"),
                _ => panic!("{} can be run", show.command),
            };
            assert!(
                there.exists() || there.with_extension("rs").exists(),
                "{} is not there",
                there.display()
            );
            assert!(show.by.is_none(), "{} is run by a test", show.command);
        }
    }

    #[test]
    fn what_a_command_comes_to_is_judged() {
        let show = |command, status, says, does_not_say| {
            let (says, does_not_say) = (Vec::from([says]), Vec::from([does_not_say]));
            Show { command, status, says, does_not_say, ..Show::default() }
        };
        assert_eq!(show("echo a >&2; exit 3", 3, "a", "b").run(), Ok(()));
        assert!(show("echo a; exit 3", 0, "a", "b").run().is_err());
        assert!(show("echo a", 0, "b", "c").run().is_err());
        assert!(show("echo a", 0, "a", "a").run().is_err());
    }

    #[test]
    fn a_line_that_is_none_of_these_is_refused() {
        assert_eq!(Show::read_all("$ a\n  = 2\n").map(|shows| shows[0].status), Ok(2));
        for wrong in ["  = 2", "$ a\n  = x", "$ a\n  ~ x", "$ a\nb"] {
            assert!(Show::read_all(wrong).is_err(), "{wrong}");
        }
    }
}
