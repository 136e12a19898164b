//! What can be wrong with a call.

use gristmill_simd::LevelError;
use std::fmt;

/// A mistake in the arguments of a call. Whoever gets one finds the outputs untouched.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A slice holds fewer elements than its sizes ask for.
    LengthTooShort {
        /// Elements asked for.
        needed: usize,
        /// Elements there are.
        len: usize,
    },
    /// Sizes and strides reach outside the slice.
    OutOfBounds {
        /// The lowest element index that they reach.
        first: i128,
        /// The highest element index that they reach.
        last: i128,
        /// Elements in the slice.
        len: usize,
    },
    /// A range of rows or columns does not lie in the view.
    RangeOutOfBounds {
        /// Start of the range.
        start: usize,
        /// End of the range, exclusive.
        end: usize,
        /// Size of the dimension.
        len: usize,
    },
    /// Two arguments disagree about a size.
    ShapeMismatch {
        /// Which size, as in `"rows of c"`.
        what: &'static str,
        /// The size that the other arguments imply.
        expected: usize,
        /// The size found.
        found: usize,
    },
    /// The strides of an output let two of its elements share an address, or cannot be seen not to: sorted by
    /// size, each stride must step over everything that the smaller ones reach.
    OverlappingOutput {
        /// The stride that is too small.
        stride: isize,
        /// The least value that it may have.
        least: i128,
    },
    /// A number of elements is not representable.
    SizeOverflow {
        /// Of what.
        what: &'static str,
    },
    /// Memory could not be had.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The instruction set asked for cannot be used.
    Level(LevelError),
    /// A key length exceeds the number of keys.
    KeyLength {
        /// Which sequence of the batch.
        batch: usize,
        /// Its length.
        length: usize,
        /// Keys there are.
        keys: usize,
    },
    /// The key/value heads do not divide the query heads.
    HeadGroups {
        /// Heads of the queries.
        query: usize,
        /// Heads of the keys and values.
        key_value: usize,
    },
    /// A token id lies outside the table.
    IdOutOfRange {
        /// Where in the list of ids.
        index: usize,
        /// The id.
        id: u32,
        /// Rows of the table.
        rows: usize,
    },
    /// A size that must not be zero is zero.
    Empty {
        /// Which size.
        what: &'static str,
    },
    /// An option has a value for which the operation is not defined.
    InvalidOption {
        /// Which option, and what it must be.
        what: &'static str,
        /// The value found.
        value: f32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::LengthTooShort { needed, len } => {
                write!(f, "the sizes need {needed} elements, the slice has {len}")
            }
            Error::OutOfBounds { first, last, len } => {
                write!(f, "sizes and strides reach elements {first} to {last} of a slice of {len}")
            }
            Error::RangeOutOfBounds { start, end, len } => {
                write!(f, "range {start}..{end} does not lie in 0..{len}")
            }
            Error::ShapeMismatch { what, expected, found } => write!(f, "{what}: expected {expected}, found {found}"),
            Error::OverlappingOutput { stride, least } => {
                write!(f, "elements of an output may overlap: its stride {stride} must be at least {least}")
            }
            Error::SizeOverflow { what } => write!(f, "the number of {what} is too large to be represented"),
            Error::OutOfMemory { bytes } => write!(f, "{bytes} bytes of memory could not be allocated"),
            Error::Level(error) => error.fmt(f),
            Error::KeyLength { batch, length, keys } => {
                write!(f, "key length {length} of sequence {batch} exceeds the {keys} keys")
            }
            Error::HeadGroups { query, key_value } => {
                write!(f, "{query} query heads cannot be shared evenly among {key_value} key/value heads")
            }
            Error::IdOutOfRange { index, id, rows } => {
                write!(f, "id {id} at index {index} lies outside a table of {rows} rows")
            }
            Error::Empty { what } => write!(f, "{what} must not be zero"),
            Error::InvalidOption { what, value } => write!(f, "{what}, found {value}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Level(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LevelError> for Error {
    fn from(error: LevelError) -> Self {
        Error::Level(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_the_numbers() {
        let error = Error::ShapeMismatch { what: "rows of c", expected: 3, found: 4 };
        assert_eq!(error.to_string(), "rows of c: expected 3, found 4");
        let error = Error::OutOfBounds { first: -2, last: 7, len: 6 };
        assert_eq!(error.to_string(), "sizes and strides reach elements -2 to 7 of a slice of 6");
    }

    #[test]
    fn a_level_error_is_the_source() {
        let error = Error::from(LevelError::Unknown("avx9".into()));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), error.to_string());
    }
}
