//! The picture: what the components show, put together. It is pure. The tasks of [`crate::follow`] pass what they read, each with its
//! time; the API reads lists and trains.
//!
//! | Module | Owns |
//! |---|---|
//! | [`station`], [`step`] | the stations, and the steps of a change |
//! | [`model`] | the state of everything |
//! | [`observe`] | what a message or an event changes, and the step that it is |
//! | [`train`] | the steps of one change |
//! | [`verdict`] | whether a route is right, as far as the tables show it |
//! | [`rows`] | lists: filters, order, pages, search |
//! | [`health`] | the sentence above the picture, and the values of the stations |

pub(crate) mod health;
pub(crate) mod model;
pub(crate) mod observe;
pub(crate) mod rows;
pub(crate) mod station;
pub(crate) mod step;
pub(crate) mod train;
pub(crate) mod verdict;

#[cfg(test)]
pub(crate) mod example;

use model::Model;
use train::Trains;

/// The state, and the changes on their way.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) model: Model,
    pub(crate) trains: Trains,
}
