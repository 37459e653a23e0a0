//! Several nodes and the mesh between them.

mod machine;
mod net;
mod notary;
mod scenarios;
mod shell;
mod world;
