//! The lesson: the pages of `docs/lesson`, what each of them asks a person to type, and what the person must see.
//!
//! It is pure. `cupola lesson` shows the pages, runs the commands and reads the state of the foundation; a group of stories runs every
//! command of every page. Both pass what they find to this crate, which compares.
//!
//! | Module | Job |
//! |---|---|
//! | [`page`] | reads a page: its texts, commands, expected output and conditions |
//! | [`output`] | compares the output of a command with the lines that a page shows |
//! | [`values`] | keeps the values that a person writes down on one page and needs on a later one |
//! | [`place`] | changes a page's names for a foundation that does not have the default ones |
//! | [`condition`] | states what must be true of the foundation before and after a page |
//! | [`mod@pages`] | lists all pages |

pub mod condition;
pub mod output;
pub mod page;
pub mod pages;
pub mod place;
pub mod values;

pub use condition::{Condition, State};
pub use page::{Command, Kind, Page, Part};
pub use pages::pages;
pub use place::Place;
pub use values::Values;
