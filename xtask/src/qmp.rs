//! QEMU's machine protocol (QMP), as far as a hung guest needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Frames of a stack, at most: a chain that leads in circles must end.
const FRAMES: usize = 24;

/// A guest that was stopped to look at it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// The registers of all CPUs, as QEMU prints them.
    pub registers: String,
    /// For each CPU its instruction pointer, then the return addresses on its stack, innermost first.
    pub stacks: Vec<Vec<u64>>,
}

/// A conversation with QEMU's monitor.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// The number of the last command; its answer carries it.
    last: u64,
}

impl Qmp {
    /// Opens the conversation on a fresh connection. Nothing is waited for: QEMU may take its time to start.
    pub fn open(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut qmp = Qmp { stream: BufReader::new(stream), last: 0 };
        qmp.send("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// After QEMU has ended: whether it did so because the guest reset itself.
    pub fn saw_reset(&mut self) -> bool {
        std::iter::from_fn(|| self.line().ok())
            .any(|event| event["event"] == "SHUTDOWN" && event["data"]["reason"] == "guest-reset")
    }

    /// Stops the guest and says where each CPU is.
    pub fn stop(&mut self) -> Result<Stopped> {
        self.command("stop", json!({}))?;
        let registers = self.monitor(0, "info registers -a")?;
        let mut stacks = Vec::new();
        for (cpu, section) in registers.split("CPU#").skip(1).enumerate() {
            // A CPU that was not started yet is in 16-bit mode, and has no stack worth following.
            let rip = value(section, "RIP=").or_else(|| value(section, "EIP="));
            let rbp = value(section, "RBP=");
            stacks.push(self.stack(cpu, rip.unwrap_or_default(), rbp.unwrap_or_default())?);
        }
        Ok(Stopped { registers, stacks })
    }

    /// Follows the frame pointers: each points to its caller's, with the return address above it.
    fn stack(&mut self, cpu: usize, rip: u64, mut rbp: u64) -> Result<Vec<u64>> {
        let mut addresses = vec![rip];
        while rbp != 0 && addresses.len() < FRAMES {
            let answer = self.monitor(cpu, &format!("x /2gx {rbp:#x}"))?;
            let [next, address] = words(&answer)[..] else { break };
            if address == 0 {
                break;
            }
            addresses.push(address);
            // The stack grows down: callers lie above.
            if next <= rbp {
                break;
            }
            rbp = next;
        }
        Ok(addresses)
    }

    /// A command of the monitor meant for people, on one CPU.
    fn monitor(&mut self, cpu: usize, line: &str) -> Result<String> {
        let arguments = json!({ "command-line": line, "cpu-index": cpu });
        let answer = self.command("human-monitor-command", arguments)?;
        Ok(answer.as_str().unwrap_or_default().replace('\r', ""))
    }

    fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        self.send(name, arguments)?;
        loop {
            let mut answer = self.line()?;
            // Else the greeting, an earlier command's answer, or an event, which may come at any time.
            if answer["id"] == self.last {
                if let Some(error) = answer.get("error") {
                    bail!("QEMU's monitor refuses {name}: {error}");
                }
                return Ok(answer["return"].take());
            }
        }
    }

    fn send(&mut self, name: &str, arguments: Value) -> Result<()> {
        self.last += 1;
        let command = json!({ "execute": name, "arguments": arguments, "id": self.last });
        writeln!(self.stream.get_mut(), "{command}").context("cannot write to QEMU's monitor")
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

/// The value of a register, printed as NAME=VALUE.
fn value(registers: &str, name: &str) -> Option<u64> {
    let digits = registers.split_whitespace().find_map(|word| word.strip_prefix(name))?;
    u64::from_str_radix(digits, 16).ok()
}

/// The words in an answer to `x`: `ADDRESS: 0xWORD 0xWORD`. Memory that cannot be read gives none.
fn words(answer: &str) -> Vec<u64> {
    let words = answer.split_whitespace().filter_map(|word| word.strip_prefix("0x"));
    words.filter_map(|digits| u64::from_str_radix(digits, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that gives these answers, one to each command, and what `ask` made of them.
    fn with_monitor<T>(
        answers: &'static [&'static str],
        ask: impl FnOnce(&mut Qmp) -> T,
    ) -> (T, Vec<String>) {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let monitor = std::thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().expect("cloned")).lines();
            writeln!(&theirs, r#"{{"QMP":{{"version":{{}},"capabilities":[]}}}}"#).expect("sent");
            let answered = answers.iter().map_while(|answer| {
                let command = commands.next()?.ok()?;
                writeln!(&theirs, "{answer}").expect("sent");
                Some(command)
            });
            answered.collect::<Vec<_>>()
        });
        let asked = ask(&mut Qmp::open(ours).expect("open"));
        (asked, monitor.join().expect("the monitor is content"))
    }

    const HELLO: &str = r#"{"return":{},"id":1}"#;
    const STOPPED: &str = r#"{"return":{},"id":2}"#;

    #[test]
    fn registers_and_stacks_are_read_past_events() {
        let (stopped, commands) = with_monitor(
            &[
                HELLO,
                "{\"event\":\"STOP\",\"data\":{}}\n{\"return\":{},\"id\":2}",
                r#"{"return":"CPU#0\r\nRBP=0000000000001000\r\nRIP=0000000000000001 RFL=2\r\nCPU#1\r\nEIP=0000fff0 EBP=1","id":3}"#,
                r#"{"return":"0000000000001000: 0x0000000000001010 0x0000000000000002\r\n","id":4}"#,
                r#"{"return":"0000000000001010: 0x0000000000000000 0x0000000000000003\r\n","id":5}"#,
            ],
            Qmp::stop,
        );
        let stopped = stopped.expect("answers");
        assert_eq!(stopped.stacks, [vec![1, 2, 3], vec![0xfff0]]);
        assert!(stopped.registers.starts_with("CPU#0\nRBP="));
        assert!(commands[1].contains("stop") && commands[2].contains("info registers -a"), "{commands:?}");
        assert!(commands[3].contains("x /2gx 0x1000"), "{commands:?}");
    }

    #[test]
    fn a_stack_that_cannot_be_read_ends_there() {
        let (stopped, _) = with_monitor(
            &[
                HELLO,
                STOPPED,
                r#"{"return":"CPU#0\nRBP=0000000000001000\nRIP=0000000000000001","id":3}"#,
                r#"{"return":"Cannot access memory\r\n","id":4}"#,
            ],
            Qmp::stop,
        );
        assert_eq!(stopped.expect("answers").stacks, [[1]]);
    }

    #[test]
    fn a_chain_of_frames_that_leads_back_ends() {
        let (stopped, _) = with_monitor(
            &[
                HELLO,
                STOPPED,
                r#"{"return":"CPU#0\nRBP=0000000000001000\nRIP=0000000000000001","id":3}"#,
                r#"{"return":"1000: 0x0000000000001000 0x0000000000000002","id":4}"#,
            ],
            Qmp::stop,
        );
        assert_eq!(stopped.expect("answers").stacks, [[1, 2]]);
    }

    #[test]
    fn a_refusal_and_a_hang_up_are_errors() {
        const REFUSAL: &str = r#"{"error":{"class":"x","desc":"no"},"id":2}"#;
        assert!(with_monitor(&[HELLO, REFUSAL], Qmp::stop).0.is_err());
        assert!(with_monitor(&[HELLO], Qmp::stop).0.is_err());
    }

    #[test]
    fn a_reset_by_the_guest_is_told_from_other_ends() {
        const RESET: &str = r#"{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#;
        assert!(with_monitor(&[RESET], Qmp::saw_reset).0);
        const QUIT: &str = r#"{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-signal"}}"#;
        assert!(!with_monitor(&[QUIT], Qmp::saw_reset).0);
    }
}
