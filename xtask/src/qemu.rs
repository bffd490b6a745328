//! QEMU as a process: started, connected to, ended.

use std::fs;
use std::io::{LineWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cleanup::Cleanup;
use crate::devices::{Devices, sockets};
use crate::hosttools;
use crate::machine::{Machine, quoted};
use crate::placed::Placed;
use crate::qmp::{Qmp, Stopped};

/// How long QEMU may take to open its connections.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// How often to look whether something that sends no signal has happened.
const GLANCE: Duration = Duration::from_millis(2);

/// Where the guest's console (COM1, with the kernel log) goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// Onto this terminal, in both directions, with QEMU's escape key Ctrl-A.
    Terminal,
    /// Kept for reports, and copied to stderr if so wished.
    Kept {
        /// Copy it to stderr.
        echo: bool,
    },
}

/// What to boot, on what.
pub struct Boot<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The boot archive.
    pub archive: &'a Path,
    /// Where COM1 goes.
    pub console: Console,
    /// Further arguments for QEMU.
    pub extra: &'a [String],
    /// What is done when a signal ends the tool.
    pub cleanup: &'a Arc<Cleanup>,
}

/// The guest's console output so far.
#[derive(Clone)]
enum Log {
    Kept(Arc<Mutex<Vec<u8>>>),
    File(PathBuf),
}

/// The host's ends of the guest's devices.
pub struct DeviceLines {
    /// Frames of the network device, each with its length before it.
    pub net: UnixStream,
    /// The console device's port for the framed protocol.
    pub host: UnixStream,
    /// Its port for the log.
    pub log: UnixStream,
}

/// A running QEMU. Dropping it ends it.
pub struct Qemu {
    child: Child,
    com2: UnixStream,
    devices: Option<DeviceLines>,
    monitor: Qmp,
    log: Log,
    log_reader: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<String>>,
}

/// How QEMU ended.
#[derive(Debug)]
pub struct Ending {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stderr.
    pub complaints: String,
    /// Whether it ended because the guest reset itself.
    pub reset: bool,
    /// What the guest wrote to its console.
    pub log: String,
}

impl Qemu {
    /// Starts QEMU. `scratch` holds sockets and logs for as long as it runs.
    pub fn start(boot: &Boot, scratch: &Path) -> Result<Self> {
        let mut command = command(boot.console);
        let archive = Placed::new(boot.archive, boot.machine.memory_mib)?;
        command.args(boot.machine.arguments(&archive.word()));
        command.arg("-kernel").arg(boot.kernel).arg("-device").arg(archive.loader());
        let com2 = Socket::chardev(scratch, "com2", &mut command)?;
        let monitor = Socket::chardev(scratch, "monitor", &mut command)?;
        command.args(["-mon", "chardev=monitor,mode=control"]);
        let devices = boot
            .machine
            .devices
            .as_ref()
            .map(|devices| DeviceSockets::new(devices, scratch, &mut command))
            .transpose()?;
        command.args(boot.machine.further_arguments());
        let console = match boot.console {
            Console::Kept { .. } => Some(Socket::chardev(scratch, "com1", &mut command)?),
            Console::Terminal => None,
        };
        let log_file = scratch.join("com1.log");
        if console.is_none() {
            command
                .arg("-chardev")
                .arg(format!("stdio,id=com1,mux=on,signal=off,logfile={},logappend=off", quoted(&log_file)));
            command.args(["-mon", "chardev=com1,mode=readline"]);
        } else {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        command.args(["-serial", "chardev:com1", "-serial", "chardev:com2"]).args(boot.extra);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start QEMU")?;
        boot.cleanup.qemu_runs(child.id());
        let complaints = child.stderr.take().map(kept_text);
        let connect = |child: &mut Child| -> Result<_> {
            let deadline = Instant::now() + CONNECT_PATIENCE;
            let com2 = com2.connected(child, deadline)?;
            let monitor = Qmp::open(monitor.connected(child, deadline)?)?;
            let console = console.map(|console| console.connected(child, deadline)).transpose()?;
            let devices = devices.map(|devices| devices.connected(child, deadline)).transpose()?;
            Ok((com2, monitor, console, devices))
        };
        let (com2, monitor, console, devices) = match connect(&mut child) {
            Ok(connected) => connected,
            Err(error) => {
                // The first error is the one to tell; QEMU may have ended by itself already.
                let _ = child.kill();
                let _ = child.wait();
                let complaints = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
                return Err(error.context(complaints.trim().to_owned()));
            }
        };
        let mut qemu =
            Qemu { child, com2, devices, monitor, log: Log::File(log_file), log_reader: None, complaints };
        if let (Some(stream), Console::Kept { echo }) = (console, boot.console) {
            let bytes = Arc::new(Mutex::new(Vec::new()));
            qemu.log = Log::Kept(Arc::clone(&bytes));
            qemu.log_reader = Some(thread::spawn(move || keep_log(stream, &bytes, echo)));
        }
        Ok(qemu)
    }

    /// The host's end of COM2, for reading and writing.
    pub fn com2(&self) -> Result<UnixStream> {
        self.com2.try_clone().context("cannot share the connection to COM2")
    }

    /// The host's ends of the devices, once, if the machine has them.
    pub fn take_devices(&mut self) -> Option<DeviceLines> {
        self.devices.take()
    }

    /// Stops the guest and says where each CPU is.
    pub fn stop(&mut self) -> Result<Stopped> {
        self.monitor.stop()
    }

    /// What the guest wrote to its console so far.
    pub fn log(&self) -> String {
        let bytes = match &self.log {
            Log::Kept(bytes) => bytes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Log::File(path) => fs::read(path).unwrap_or_default(),
        };
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits up to `patience` for QEMU to end by itself, ends it otherwise, and tells of its end.
    pub fn end(&mut self, patience: Duration) -> Result<Ending> {
        let deadline = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().context("cannot wait for QEMU")? {
                Some(status) => break status,
                None if Instant::now() < deadline => thread::sleep(GLANCE),
                None => {
                    self.child.kill().context("cannot end QEMU")?;
                    break self.child.wait().context("cannot wait for QEMU")?;
                }
            }
        };
        if let Some(reader) = self.log_reader.take() {
            // A reader that failed leaves the log as far as it came.
            let _ = reader.join();
        }
        let complaints = self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok(Ending { status, complaints, reset: self.monitor.saw_reset(), log: self.log() })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Ended already: nothing to do, nothing to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// QEMU's program, told to end when the tool does, however that ends.
fn command(console: Console) -> Command {
    let qemu = hosttools::QEMU.program;
    if hosttools::find("setpriv").is_some() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", qemu]);
        if console != Console::Terminal {
            // Ctrl-C is for whoever has the terminal: this tool, or gdb.
            command.process_group(0);
        }
        return command;
    }
    Command::new(qemu)
}

/// A connection that QEMU will open. The listener is there before QEMU is, so nobody waits in vain.
struct Socket {
    listener: UnixListener,
    name: &'static str,
}

impl Socket {
    fn new(scratch: &Path, name: &'static str) -> Result<Self> {
        let path = scratch.join(name);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Socket { listener, name })
    }

    /// One that QEMU has as a chardev of the same name.
    fn chardev(scratch: &Path, name: &'static str, command: &mut Command) -> Result<Self> {
        let socket = Socket::new(scratch, name)?;
        command.arg("-chardev").arg(format!("socket,id={name},path={}", quoted(&scratch.join(name))));
        Ok(socket)
    }

    fn connected(&self, qemu: &mut Child, deadline: Instant) -> Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot accept QEMU's connection"),
            }
            if let Some(status) = qemu.try_wait()? {
                bail!("QEMU did not start ({status})");
            }
            if Instant::now() > deadline {
                bail!("QEMU does not connect its {}", self.name);
            }
            thread::sleep(GLANCE);
        }
    }
}

/// The sockets of the devices, before QEMU has connected to them.
struct DeviceSockets {
    net: Socket,
    host: Socket,
    log: Socket,
}

impl DeviceSockets {
    /// Makes what the devices need, and tells QEMU of them.
    fn new(devices: &Devices, scratch: &Path, command: &mut Command) -> Result<Self> {
        devices.make_disks(scratch)?;
        let net = Socket::new(scratch, sockets::NET)?;
        let host = Socket::chardev(scratch, sockets::HOST, command)?;
        let log = Socket::chardev(scratch, sockets::LOG, command)?;
        command.args(devices.arguments(scratch));
        Ok(DeviceSockets { net, host, log })
    }

    fn connected(self, qemu: &mut Child, deadline: Instant) -> Result<DeviceLines> {
        let mut stream = |socket: &Socket| socket.connected(qemu, deadline);
        Ok(DeviceLines { net: stream(&self.net)?, host: stream(&self.host)?, log: stream(&self.log)? })
    }
}

/// Reads text to its end on a thread of its own.
fn kept_text(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = source.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn keep_log(mut source: UnixStream, log: &Mutex<Vec<u8>>, echo: bool) {
    let mut buffer = [0; 4096];
    // By whole lines, as the tool writes there, too. The last one comes when this ends.
    let mut stderr = LineWriter::new(std::io::stderr());
    while let Ok(length @ 1..) = source.read(&mut buffer) {
        if echo {
            // A closed stderr is no reason to stop keeping the log.
            let _ = stderr.write_all(&buffer[..length]);
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
    }
}
