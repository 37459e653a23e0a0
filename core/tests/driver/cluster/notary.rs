//! Bytes and signatures, as far as a cluster without keys needs them: the place where `detour-wire` would stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use detour_core::mesh::Sealed;
use detour_core::report::Snapshot;

use crate::provider::mix;

/// Turns snapshots into bytes and back. The bytes are a hash of the content under the signer's key; who holds the
/// notary can open what it sealed, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Notary {
    sealed: BTreeMap<u64, Sealed>,
}

impl Notary {
    /// Signs.
    pub(super) fn seal(&mut self, snapshot: Snapshot) -> Sealed {
        let text = format!("{snapshot:?}");
        let name = text.bytes().fold(7, |hash, byte| mix(hash ^ u64::from(byte)));
        let sealed = Sealed {
            snapshot: Arc::new(snapshot),
            bytes: Arc::from(name.to_be_bytes()),
        };
        self.sealed.insert(name, sealed.clone());
        sealed
    }

    /// Decodes, and checks the signature.
    pub(super) fn open(&self, bytes: &[u8]) -> Option<Sealed> {
        let name = u64::from_be_bytes(bytes.try_into().ok()?);
        self.sealed.get(&name).cloned()
    }
}
