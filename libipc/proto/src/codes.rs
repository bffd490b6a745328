//! Enums whose variants are numbers in messages and shared pages.

/// Declares an enum of numbers: with all of its variants in `ALL`, and a constructor that finds the variant of a number.
/// Variants with a text behind an arrow get a method that returns the text.
///
/// ```text
/// codes! {
///     /// Why.
///     Cause: u64 = from_word, name {
///         /// A fault.
///         Fault = 1 => "fault",
///     }
/// }
/// ```
macro_rules! codes {
    ($(#[$about:meta])* $name:ident: $repr:ident = $from:ident {
        $($(#[$each:meta])* $variant:ident = $value:expr,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr($repr)]
        pub enum $name {
            $($(#[$each])* $variant = $value,)*
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: [$name; [$($name::$variant),*].len()] = [$($name::$variant),*];

            /// Returns the variant with this number, if there is one.
            pub const fn $from(number: $repr) -> Option<$name> {
                match number {
                    $(number if number == $name::$variant as $repr => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
    ($(#[$about:meta])* $name:ident: $repr:ident = $from:ident, $text_of:ident {
        $($(#[$each:meta])* $variant:ident = $value:expr => $text:literal,)*
    }) => {
        $crate::codes::codes! {
            $(#[$about])* $name: $repr = $from { $($(#[$each])* $variant = $value,)* }
        }

        impl $name {
            /// Returns the variant in words.
            pub const fn $text_of(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}

pub(crate) use codes;
