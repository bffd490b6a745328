//! How long a device may be silent.

use crate::DeviceError;

/// Sees whether a device that has requests goes on to answer them.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Ticks that it may have requests without answering any.
    most: u64,
    /// When it was first seen to have requests, or last to have answered one; none while it has none.
    since: Option<u64>,
    /// How many it had answered then.
    answered: u64,
}

impl Patience {
    /// Gives a device up that answers nothing for so many ticks, of whatever clock.
    pub fn new(most: u64) -> Patience {
        Patience { most, since: None, answered: 0 }
    }

    /// Until when the device must have answered something, now that it is `now`, that it has requests or has not, and has
    /// answered so many in all; none if it has nothing to do.
    pub fn deadline(&mut self, now: u64, busy: bool, answered: u64) -> Result<Option<u64>, DeviceError> {
        let goes_on = core::mem::replace(&mut self.answered, answered) != answered;
        if !busy {
            self.since = None;
            return Ok(None);
        }
        if goes_on {
            self.since = None;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= self.most {
            return Err(DeviceError::Silent);
        }
        Ok(Some(since.saturating_add(self.most)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_answers_nothing_for_too_long_is_given_up() {
        let mut patience = Patience::new(100);
        assert_eq!(patience.deadline(1000, true, 0), Ok(Some(1100)));
        assert_eq!(patience.deadline(1099, true, 0), Ok(Some(1100)), "the time counts from the first look");
        assert_eq!(patience.deadline(1100, true, 0), Err(DeviceError::Silent));
    }

    #[test]
    fn each_answer_begins_the_time_anew() {
        let mut patience = Patience::new(100);
        for (now, answered) in [(0, 0), (99, 1), (198, 2), (297, u64::MAX), (396, 0)] {
            assert_eq!(patience.deadline(now, true, answered), Ok(Some(now + 100)));
        }
    }

    #[test]
    fn a_device_without_requests_may_be_silent() {
        let mut patience = Patience::new(100);
        assert_eq!(patience.deadline(0, true, 0), Ok(Some(100)));
        assert_eq!(patience.deadline(500, false, 0), Ok(None));
        assert_eq!(patience.deadline(600, true, 0), Ok(Some(700)));
    }
}
