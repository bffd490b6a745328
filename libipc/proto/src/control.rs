//! What an operator's program asks of init: `svc`, `storm`, `demo`. Asked on the capability that the start block calls
//! `init`, by components that hold the right `supervise`; plain words, answered at once, with the labels of
//! [`crate::component`].
//!
//! A component goes by its place in the manifest; a name is looked up once. Names travel as bytes in the IPC buffer.

use crate::codes::codes;

codes! {
    /// What is asked: the label of the message.
    Request: u32 = from_label {
        /// The place of the component whose name is word 0's number of bytes: word 0 of the answer.
        Find = 32,
        /// About the component at place word 0: the words of [`about`], and its name (word 7 of the answer is its length).
        /// `Unknown` behind the last.
        About = 33,
        /// Kill the component at place word 0, now: it is restarted as its policy says, and no fault is counted.
        Kill = 34,
        /// Have the component at place word 0 do [`crate::life::Injection`] word 1 to itself when it has begun word 2
        /// messages in its life (0: at once). Word 3: not 0 if it counts as the component's own fault.
        Inject = 35,
        /// Kill and start again, also one that is parked or was never started.
        Restart = 36,
        /// The crash record number word 0 (0 is the latest): the bytes of a [`crate::host::Crash`] in postcard, with when
        /// (TSC ticks) in word 1, the component's place in word 2, the cause (a [`Cause`]) in word 3 and the length in
        /// word 0. `Unknown`: there are no more.
        CrashRecord = 37,
        /// The last log lines of the component in crash record number word 0, from byte word 1 on: word 0 says how many.
        CrashLog = 38,
        /// The first capability from slot word 1 on of the component at place word 0: slot, kind, bits, rights, badge,
        /// identity (words 0 to 5), and its name if the start block gives it one (word 7: length). `Unknown`: no more.
        Capability = 39,
        /// The lines of the manifest, from byte word 0 on: word 0 says how many bytes come.
        Manifest = 40,
        /// The component at place word 0 wrote nonsense (word 1 says what, as the protocol has it) into a channel that it
        /// shares with the caller: its life is ended. Needs no right but that channel.
        Report = 41,
        /// Kill the component at place word 0 as its own injection asks for. Needs no right; the caller dies.
        KillMe = 42,
        /// When each part of a recovery of the component at place word 0 was done, of the one that was word 1 recoveries
        /// ago (0 is the latest): the words of [`recovery`]. `Unknown`: init remembers no more than [`RECOVERIES`].
        Recovery = 43,
        /// Have the bell of the caller signalled, with bit `bell::OWN` + word 0 (below 8), at each end of a life of a
        /// component that it may watch.
        Watch = 44,
        /// The function at address word 1 of the program of crash record number word 0: word 0 is the address's offset in it,
        /// word 7 the length of its name. `Unknown`: there are no symbols, or none there.
        Symbol = 45,
        /// The kernel's log from byte word 0 on: word 0 says how many bytes come, word 1 which is the first of them (older ones
        /// may be gone).
        Log = 46,
        /// Trace the events in word 0 (bit n: event n of `abi::trace::Event`); 0: none. Who holds the right `trace` reads them.
        Trace = 47,
    }
}

/// Recoveries of a component that init remembers.
pub const RECOVERIES: usize = 256;

/// Words of the answer to [`Request::About`].
pub mod about {
    /// A [`super::State`].
    pub const STATE: usize = 0;
    /// Which life it is in.
    pub const LIFE: usize = 1;
    /// Its own faults so far (low half), kills by the operator (high half).
    pub const DEATHS: usize = 2;
    /// Bytes of transient memory (log2 in the low byte), durable bytes (from bit 8 on).
    pub const MEMORY: usize = 3;
    /// TSC ticks of processor time in all its lives.
    pub const TIME: usize = 4;
    /// Messages begun in this life.
    pub const MESSAGES: usize = 5;
    /// Requests served in this life.
    pub const SERVED: usize = 6;
}

/// Words of the answer to [`Request::Recovery`]: all in TSC ticks.
pub mod recovery {
    /// When the death was noticed.
    pub const DETECTED: usize = 0;
    /// When the device was stopped and its memory fenced (equal to the one before without a device).
    pub const FENCED: usize = 1;
    /// When everything of the old life was taken back.
    pub const REVOKED: usize = 2;
    /// When the new life was started.
    pub const STARTED: usize = 3;
    /// When it said that it was ready; 0 before.
    pub const READY: usize = 4;
    /// When it had served its first request; 0 before.
    pub const SERVED: usize = 5;
    /// The life that began then.
    pub const LIFE: usize = 6;
}

codes! {
    /// What a component is doing, as far as init knows.
    State: u64 = from_word, name {
        /// Never started, or ended and not to be started again.
        Idle = 0 => "idle",
        /// It runs.
        Runs = 1 => "runs",
        /// It is dead, its device is being stopped.
        Fencing = 2 => "fencing",
        /// It is dead, and will be started again after a while.
        Waits = 3 => "waits",
        /// It died too often: it is left dead until the operator restarts it.
        Parked = 4 => "parked",
    }
}

codes! {
    /// Why a life ended.
    Cause: u64 = from_word, name {
        /// A fault or a panic.
        Fault = 1 => "fault",
        /// It did not answer its heartbeat.
        Hang = 2 => "hang",
        /// Its budget of processor time ran out.
        Budget = 3 => "budget exhausted",
        /// A peer reported nonsense.
        Corrupt = 4 => "corrupt rings",
        /// Its device did what it must not: the IOMMU reported it.
        Device = 5 => "forbidden DMA",
        /// It ended, though it is not to end.
        Ended = 6 => "ended",
        /// The operator's will.
        Killed = 7 => "killed",
    }
}
