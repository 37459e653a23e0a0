//! The mesh of this node: what it is made of, whether it runs, and why not.
//!
//! It begins after DNS is served and ends before the rest does; nothing waits for it. Without an identity that lasts it
//! stays off and everything says so: peers admit a node by its key, so one made for a single process would be admitted
//! nowhere.

mod link;
mod notes;
mod part;
mod settings;
mod trial;

pub(crate) use self::link::MeshLink;
pub(crate) use self::notes::{MeshNotes, Phase};
pub(crate) use self::part::{MeshPart, MeshParts};
pub(crate) use self::settings::{Setup, of_control};
pub(crate) use self::trial::trial;
