//! An error that sums those of several stages takes each of them by `?`.

/// Makes the variants of a sum from their errors: `from! { Sum: stage::Error: Variant, … }`.
macro_rules! from {
    ($sum:ident: $($error:ty: $variant:ident),*) => {
        $(impl From<$error> for $sum {
            fn from(error: $error) -> Self {
                $sum::$variant(error)
            }
        })*
    };
}

pub(crate) use from;
