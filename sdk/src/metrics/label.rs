//! Labels whose values are a closed set.

/// One label and all the values that it can have.
pub(crate) trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Self::place`].
    const ALL: &'static [Self];

    /// How a value is written.
    fn value(self) -> &'static str;

    /// Where it stands in [`Self::ALL`].
    fn place(self) -> usize;
}

/// An enum that is a [`Label`].
macro_rules! label {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$of:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$of])* $variant),+ }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn value(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use label;
