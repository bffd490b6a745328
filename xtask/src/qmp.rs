//! QEMU's machine protocol (QMP), as far as a hung guest needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A conversation with QEMU's monitor.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Opens the conversation on a fresh connection.
    pub fn open(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Qmp { stream: BufReader::new(stream) };
        qmp.line().context("QEMU's monitor says no greeting")?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// The registers of all CPUs, as QEMU prints them.
    pub fn registers(&mut self) -> Result<String> {
        let answer = self.command("human-monitor-command", json!({ "command-line": "info registers -a" }))?;
        Ok(answer.as_str().unwrap_or_default().replace('\r', ""))
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let command = json!({ "execute": name, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{command}").context("cannot write to QEMU's monitor")?;
        loop {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor refuses {name}: {error}");
            }
            // Else an event, which may come at any time.
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("QEMU's monitor does not answer")?;
        if length == 0 {
            bail!("QEMU's monitor hung up");
        }
        serde_json::from_str(&line).context("QEMU's monitor does not speak JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that reads two commands and gives `answer` to the second.
    fn with_monitor(answer: &'static str) -> Result<String> {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let monitor = std::thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().expect("cloned")).lines();
            let send = |text: &str| writeln!(&theirs, "{text}").expect("sent");
            send(r#"{"QMP":{"version":{},"capabilities":[]}}"#);
            commands.next();
            send(r#"{"return":{}}"#);
            let command = commands.next().expect("a command").expect("readable");
            assert!(command.contains("info registers -a"));
            send(answer);
        });
        let registers = Qmp::open(ours).and_then(|mut qmp| qmp.registers());
        monitor.join().expect("the monitor is content");
        registers
    }

    #[test]
    fn registers_are_read_past_events_and_without_carriage_returns() {
        let answer = "{\"event\":\"STOP\",\"data\":{}}\n{\"return\":\"CPU#0\\r\\nRIP=1\\r\\n\"}";
        assert_eq!(with_monitor(answer).expect("registers"), "CPU#0\nRIP=1\n");
    }

    #[test]
    fn a_refusal_and_a_hang_up_are_errors() {
        assert!(with_monitor(r#"{"error":{"class":"x","desc":"no"}}"#).is_err());
        assert!(with_monitor("").is_err());
    }
}
