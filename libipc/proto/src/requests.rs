//! Requests with named words.

/// A value that travels in a word of a message.
pub trait Word: Sized + Copy {
    /// Returns the word that stands for it.
    fn to_word(self) -> u64;
    /// Returns what a word stands for, or `None` if it stands for nothing.
    fn from_word(word: u64) -> Option<Self>;
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }

    fn from_word(word: u64) -> Option<u64> {
        Some(word)
    }
}

impl Word for bool {
    fn to_word(self) -> u64 {
        u64::from(self)
    }

    fn from_word(word: u64) -> Option<bool> {
        match word {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Declares the requests of a protocol: an enum whose variants have the words of the request as fields, the first field
/// in word 0. A request goes into a message by `label` and `words`, and comes out of one by `from_message`, which
/// refuses labels and words without a meaning.
///
/// ```text
/// requests! {
///     /// What is asked.
///     Request {
///         /// Move from one to another.
///         Transfer = 3 { from: u64, to: u64 },
///     }
/// }
/// ```
macro_rules! requests {
    ($(#[$about:meta])* $name:ident {
        $($(#[$each:meta])* $variant:ident = $label:literal { $($(#[$of_field:meta])* $field:ident: $kind:ty),* $(,)? },)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $variant { $($(#[$of_field])* $field: $kind,)* },)*
        }

        impl $name {
            /// The label and the name of every request.
            pub const LABELS: &[(u32, &str)] = &[$(($label, stringify!($variant)),)*];

            /// Returns the label of its message.
            pub const fn label(&self) -> u32 {
                match self {
                    $($name::$variant { .. } => $label,)*
                }
            }

            /// Returns the words of its message.
            pub fn words(&self) -> [u64; 8] {
                match *self {
                    $($name::$variant { $($field),* } => {
                        let words: &[u64] = &[$($crate::requests::Word::to_word($field)),*];
                        let mut all = [0; 8];
                        all[..words.len()].copy_from_slice(words);
                        all
                    })*
                }
            }

            /// Returns the request in a message with this label and these words, or `None` if there is none.
            pub fn from_message(label: u32, words: &[u64; 8]) -> Option<$name> {
                let mut words = words.iter().copied();
                match label {
                    $($label => Some($name::$variant { $($field: $crate::requests::next(&mut words)?),* }),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use requests;

/// Takes the next word for what it stands for.
pub(crate) fn next<T: Word>(words: &mut impl Iterator<Item = u64>) -> Option<T> {
    T::from_word(words.next()?)
}
