//! Enums that the ledger keeps as words.

/// Gives an enum its words: `as_str`, `FromStr` and `Display`.
macro_rules! words {
    ($name:ty, $what:literal, $($variant:ident = $word:literal),+) => {
        impl $name {
            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
        impl std::str::FromStr for $name {
            type Err = harbinger_core::fleet::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(harbinger_core::fleet::UnknownWord {
                        what: $what, text: text.to_owned(), known: &[$($word),+],
                    }),
                }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;

/// `AND state IN (...)` for the states that are wanted; nothing where all are. The words are our own constants, never a caller's text.
pub(super) fn in_states<S: std::fmt::Display>(states: &[S]) -> String {
    let words: Vec<String> = states.iter().map(|state| format!("'{state}'")).collect();
    if words.is_empty() { String::new() } else { format!("AND state IN ({})", words.join(", ")) }
}
