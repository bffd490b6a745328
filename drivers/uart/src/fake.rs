//! A line of software that misbehaves as it is told, for host tests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::rc::Rc;

use crate::{FIFO, Registers};

/// What a line does, and what was done to it.
#[derive(Debug, Default)]
pub struct State {
    sent: Vec<u8>,
    /// How many of the last bytes that were sent the other side has not taken yet.
    pub in_transmitter: usize,
    /// What the other side has sent.
    pub to_receive: VecDeque<u8>,
    enabled: u8,
    scratch: u8,
    divisor_access: bool,
    /// All its registers read as ones.
    pub gone: bool,
    /// It has always one more byte.
    pub babbles: bool,
    /// The driver dies when it has sent so many bytes more.
    pub dies_after: Option<usize>,
}

/// Registers of a line, of which both sides have a handle.
#[derive(Clone, Debug, Default)]
pub struct Fake(pub Rc<RefCell<State>>);

impl Registers for Fake {
    fn read(&mut self, number: u8) -> u8 {
        let mut state = self.0.borrow_mut();
        match number {
            _ if state.gone => 0xff,
            0 if state.babbles => 0x55,
            0 => state.to_receive.pop_front().expect("read only when there is something"),
            5 => {
                let data = state.babbles || !state.to_receive.is_empty();
                u8::from(data) | u8::from(state.in_transmitter == 0) << 5
            }
            7 => state.scratch,
            _ => 0,
        }
    }

    fn write(&mut self, number: u8, value: u8) {
        let mut state = self.0.borrow_mut();
        match number {
            0 if !state.divisor_access => {
                assert!(state.in_transmitter < FIFO, "the transmitter takes {FIFO} bytes");
                if state.dies_after == Some(0) {
                    drop(state);
                    resume_unwind(Box::new(()));
                }
                state.dies_after = state.dies_after.map(|left| left - 1);
                state.in_transmitter += 1;
                state.sent.push(value);
            }
            1 if !state.divisor_access => state.enabled = value,
            2 => {
                if value & 2 != 0 {
                    state.to_receive.clear();
                }
                if value & 4 != 0 {
                    let taken = state.sent.len() - state.in_transmitter;
                    state.sent.truncate(taken);
                    state.in_transmitter = 0;
                }
            }
            3 => state.divisor_access = value & 0x80 != 0,
            7 => state.scratch = value,
            _ => {}
        }
    }
}

impl Fake {
    /// What the other side gets, now or when it takes it.
    pub fn sent(&self) -> Vec<u8> {
        self.0.borrow().sent.clone()
    }

    /// The other side takes what is in the transmitter.
    pub fn drain(&self) {
        self.0.borrow_mut().in_transmitter = 0;
    }

    /// It interrupts when the transmitter can take more.
    pub fn wants_to_send(&self) -> bool {
        self.0.borrow().enabled & 2 != 0
    }

    /// It interrupts when something has come.
    pub fn listens(&self) -> bool {
        self.0.borrow().enabled & 1 != 0
    }
}
