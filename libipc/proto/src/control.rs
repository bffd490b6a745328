//! What an operator's program asks of init: `svc`, `storm`, `demo`. Asked on the capability that the start block calls
//! `init`, by components that hold the right `supervise`; plain words, answered at once, with the labels of
//! [`crate::component`].
//!
//! A component goes by its place in the manifest; a name is looked up once. Names travel as bytes in the IPC buffer.

use crate::codes::codes;
use crate::life::Injection;
use crate::requests::requests;

requests! {
    /// What is asked. The place of a component is its number in the manifest.
    Request {
        /// Find the component whose name is so many bytes long: its place is word 0 of the answer.
        Find = 32 {
            /// Bytes of the name.
            length: u64,
        },
        /// Tell about a component: the words of [`about`], and its name (word 7 of the answer is its length). `Unknown`
        /// behind the last.
        About = 33 {
            /// The component.
            place: u64,
        },
        /// Kill a component, now: it is restarted as its policy says, and no fault is counted.
        Kill = 34 {
            /// The component.
            place: u64,
        },
        /// Have a component do something to itself.
        Inject = 35 {
            /// The component.
            place: u64,
            /// What it does.
            what: Injection,
            /// When: when it has begun so many messages in its life; 0: at once.
            at_message: u64,
            /// Whether that counts as the component's own fault.
            counts: bool,
        },
        /// Kill and start again, also one that is parked or was never started.
        Restart = 36 {
            /// The component.
            place: u64,
        },
        /// A crash record: the bytes of a [`crate::host::Crash`] in postcard, with when (TSC ticks) in word 1, the
        /// component's place in word 2, the cause (a [`Cause`]) in word 3 and the length in word 0. `Unknown`: there are
        /// no more.
        CrashRecord = 37 {
            /// Which; 0 is the latest.
            number: u64,
        },
        /// The last log lines of the component of a crash record: word 0 says how many bytes come.
        CrashLog = 38 {
            /// Which record.
            number: u64,
            /// The first byte.
            from: u64,
        },
        /// The first capability of a component from a slot on: slot, kind, bits, rights, badge, identity (words 0 to 5), and
        /// its name if the start block gives it one (word 7: length). `Unknown`: no more.
        Capability = 39 {
            /// The component.
            place: u64,
            /// The first slot.
            from: u64,
        },
        /// The lines of the manifest: word 0 says how many bytes come.
        Manifest = 40 {
            /// The first byte.
            from: u64,
        },
        /// A component wrote nonsense into a channel that it shares with the caller: its life is ended. Needs no right but
        /// that channel.
        Report = 41 {
            /// The component.
            place: u64,
            /// What is wrong, as the protocol has it.
            what: u64,
        },
        /// Kill the caller, as its own injection asks for. Needs no right.
        KillMe = 42 {},
        /// When each part of a recovery of a component was done: the words of [`recovery`]. `Unknown`: init remembers no
        /// more than [`RECOVERIES`].
        Recovery = 43 {
            /// The component.
            place: u64,
            /// How many recoveries ago; 0 is the latest.
            ago: u64,
        },
        /// Have the caller's bell signalled at each end of a life of a component that it may watch.
        Watch = 44 {
            /// The bit is `bell::OWN` and this, which is below 8.
            bit: u64,
        },
        /// The function at an address of the program of a crash record: word 0 is the address's offset in it, word 7 the
        /// length of its name. `Unknown`: there are no symbols, or none there.
        Symbol = 45 {
            /// Which record.
            number: u64,
            /// The address.
            address: u64,
        },
        /// The kernel's log: word 0 says how many bytes come, word 1 which is the first of them (older ones may be gone).
        Log = 46 {
            /// The first byte.
            from: u64,
        },
        /// Trace events; none of them if no bit is set. Who holds the right `trace` reads them.
        Trace = 47 {
            /// Bit n: event n of `abi::trace::Event`.
            events: u64,
        },
        /// Empty the state of a component and start it again, also one that is parked: for a state that is damaged. What its
        /// clients had is gone with it.
        Reset = 48 {
            /// The component.
            place: u64,
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_words_are_frozen() {
        let labels: [&str; 16] = [
            "Find",
            "About",
            "Kill",
            "Inject",
            "Restart",
            "CrashRecord",
            "CrashLog",
            "Capability",
            "Manifest",
            "Report",
            "KillMe",
            "Recovery",
            "Watch",
            "Symbol",
            "Log",
            "Trace",
        ];
        let expected: heapless::Vec<(u32, &str), 32> = (32..).zip(labels).collect();
        assert_eq!(Request::LABELS[..labels.len()], expected);
        let inject = Request::Inject { place: 7, what: Injection::Hang, at_message: 9, counts: true };
        assert_eq!((inject.label(), inject.words()), (35, [7, 3, 9, 1, 0, 0, 0, 0]));
        let report = Request::Report { place: 2, what: 5 };
        assert_eq!((report.label(), report.words()), (41, [2, 5, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_request_comes_out_of_its_message_and_out_of_no_other() {
        for (label, _) in Request::LABELS {
            let words = [1; 8];
            let request = Request::from_message(*label, &words).expect("1 stands for something everywhere");
            assert_eq!(request.label(), *label);
            assert_eq!(Request::from_message(*label, &request.words()), Some(request));
        }
        for label in [0, 1, 31, 1000, u32::MAX] {
            assert_eq!(Request::from_message(label, &[1; 8]), None);
        }
        for words in [[1, 0, 0, 0, 0, 0, 0, 0], [1, 6, 0, 0, 0, 0, 0, 0], [1, 1, 0, 2, 0, 0, 0, 0]] {
            assert_eq!(Request::from_message(35, &words), None, "{words:?}");
        }
    }
}
