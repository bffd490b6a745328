//! init's orders (`proto::pci`), read once and checked.

use proto::pci::{MAX_FUNCTIONS, MAX_VECTORS, Wanted, orders};
use ring::Word;

use crate::msi::{Message, Messages};

/// Words of the orders.
pub const WORDS: usize = (MAX_FUNCTIONS + 1) * orders::STRIDE;

/// Messages are written to these addresses (Intel SDM volume 3, 11.11.1), whatever else a device may write to.
const MESSAGES: core::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number.
    pub number: u64,
    /// What the function shall be; `None` if that makes no sense.
    pub wanted: Option<Wanted>,
    /// The slot of the Frame with the MSI-X table.
    pub table: u32,
    /// The slot of the Frame with VirtIO's common configuration.
    pub common: u32,
    /// The messages of the vectors to set up.
    pub messages: Messages,
}

/// The orders.
#[derive(Debug)]
pub struct Orders<'m, W> {
    words: &'m [W],
}

impl<'m, W: Word> Orders<'m, W> {
    /// The orders in this memory, if that is large enough.
    pub fn new(words: &'m [W]) -> Option<Orders<'m, W>> {
        Some(Orders { words: words.get(..WORDS)? })
    }

    /// The number of the order for function `n`; 0: there has been none.
    pub fn number(&self, n: usize) -> u64 {
        self.words[index(n, orders::NUMBER)].read_acquire()
    }

    /// The order for function `n`. `None` while init writes the next one: it rings when it is there.
    pub fn read(&self, n: usize) -> Option<Order> {
        let number = self.number(n);
        let word = |word| self.words[index(n, word)].read_acquire();
        let (wanted, frames, vectors) = (word(orders::WANTED), word(orders::FRAMES), word(orders::VECTORS));
        let message = |vector: usize| Message {
            address: word(orders::MESSAGES + 2 * vector),
            data: word(orders::MESSAGES + 2 * vector + 1) as u32,
        };
        let messages: Messages = (0..MAX_VECTORS.min(vectors as usize)).map(message).collect();
        let sound = vectors <= MAX_VECTORS as u64
            && messages.iter().all(|each| MESSAGES.contains(&each.address) && each.address % 4 == 0);
        let wanted = Wanted::from_word(wanted).filter(|_| sound);
        let order = Order { number, wanted, table: frames as u32, common: (frames >> 32) as u32, messages };
        (number != 0 && self.number(n) == number).then_some(order)
    }
}

/// Where word `word` of function `n` (below [`MAX_FUNCTIONS`]) is.
fn index(n: usize, word: usize) -> usize {
    (n + 1) * orders::STRIDE + word
}
