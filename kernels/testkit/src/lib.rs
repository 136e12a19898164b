//! Fills, comparisons, guard pages and fuzz bodies for the tests of Gristmill.
