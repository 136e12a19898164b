//! Lists that grow, or say that they cannot.
//!
//! A list that cannot grow holds what it held, and perhaps some of what was to follow.

use crate::Error;

/// Makes room for `more` elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), Error> {
    // A list grows by moving to memory for all of it.
    let bytes = list.len().saturating_add(more).saturating_mul(size_of::<T>());
    list.try_reserve(more).map_err(|_| Error::OutOfMemory { bytes })
}

/// An empty list with room for `capacity` elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn with_capacity<T>(capacity: usize) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    reserve(&mut list, capacity)?;
    Ok(list)
}

/// A list of `len` copies.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn filled<T: Clone>(value: T, len: usize) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    resize(&mut list, len, value)?;
    Ok(list)
}

/// Makes a list as long as asked, with as many copies of `value` as that needs.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn resize<T: Clone>(list: &mut Vec<T>, len: usize, value: T) -> Result<(), Error> {
    reserve(list, len.saturating_sub(list.len()))?;
    list.resize(len, value);
    Ok(())
}

/// Appends elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn extend<T>(list: &mut Vec<T>, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
    let elements = elements.into_iter();
    reserve(list, elements.size_hint().0)?;
    for element in elements {
        if list.len() == list.capacity() {
            reserve(list, 1)?;
        }
        list.push(element);
    }
    Ok(())
}

/// Replaces the elements of a list, which keeps its memory.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn refill<T>(list: &mut Vec<T>, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
    list.clear();
    extend(list, elements)
}

/// A list of these elements.
///
/// # Errors
/// [`Error::OutOfMemory`].
///
/// ```
/// use gristmill_core::{Error, list};
///
/// assert_eq!(list::collect((0..9).filter(|n| n % 2 == 1)), Ok(vec![1, 3, 5, 7]));
/// assert_eq!(list::collect(std::iter::repeat_n(0u64, usize::MAX)), Err(Error::OutOfMemory { bytes: usize::MAX }));
/// ```
pub fn collect<T>(elements: impl IntoIterator<Item = T>) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    extend(&mut list, elements)?;
    Ok(list)
}

/// A list of what these calls give.
///
/// # Errors
/// Whatever one of them gives, and [`Error::OutOfMemory`].
pub fn try_collect<T, E: From<Error>>(calls: impl IntoIterator<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let mut list = Vec::new();
    for element in calls {
        extend(&mut list, [element?])?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_as_those_of_the_standard_library() {
        let mut list = vec![1, 2];
        extend(&mut list, [3; 5]).unwrap();
        extend(&mut list, (0..).take_while(|&n| n < 100)).unwrap();
        let mut expected = vec![1, 2, 3, 3, 3, 3, 3];
        expected.extend(0..100);
        assert_eq!(list, expected);
        resize(&mut list, 3, 9).unwrap();
        resize(&mut list, 5, 9).unwrap();
        assert_eq!(list, [1, 2, 3, 9, 9]);
        refill(&mut list, [7, 8]).unwrap();
        assert_eq!(list, [7, 8]);
        assert_eq!(filled(5, 3), Ok(vec![5; 3]));
        assert!(with_capacity::<u8>(9).unwrap().capacity() >= 9);
        assert_eq!(try_collect((0..3).map(Ok::<_, Error>)), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn a_list_that_cannot_grow_keeps_what_it_has() {
        let mut list = vec![1u16, 2];
        let error = Error::OutOfMemory { bytes: usize::MAX };
        assert_eq!(reserve(&mut list, usize::MAX), Err(error.clone()));
        assert_eq!(resize(&mut list, usize::MAX, 0), Err(error.clone()));
        assert_eq!(resize(&mut list, 1 << 61, 0), Err(Error::OutOfMemory { bytes: 1 << 62 }));
        assert_eq!(extend(&mut list, std::iter::repeat_n(0, usize::MAX)), Err(error.clone()));
        assert_eq!(filled(0u8, usize::MAX), Err(error.clone()));
        assert_eq!(with_capacity::<u8>(usize::MAX), Err(error));
        assert_eq!(list, [1, 2]);
        let failing = (0..).map(|n| if n < 3 { Ok(n) } else { Err(Error::Empty { what: "number" }) });
        assert_eq!(try_collect(failing), Err(Error::Empty { what: "number" }));
    }
}
