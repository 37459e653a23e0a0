//! Who this node is: an Ed25519 key in a file of its own.
//!
//! Made once, never overwritten: whoever lost it is another node, and every peer has to be told. Readable by its owner
//! alone; one that others could read is refused, because whoever copied it can speak as this node. Encoded as libp2p
//! does (a protobuf of key type and key), so that its tools read it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use detour_core::report::NodeId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

use crate::files;

/// In the state directory.
pub const IDENTITY_FILE: &str = "identity";
/// A key takes 68 bytes; what is longer is none.
const BYTES_MAX: u64 = 256;
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;
/// The multihash that is no hash: short keys stand in a peer id as they are.
const IDENTITY_HASH: u64 = 0;

/// A node's key. Shows itself as the peer id only.
#[derive(Clone)]
pub struct Identity {
    key: Keypair,
    node: NodeId,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}

/// Why there is no identity. DNS goes on without; the mesh does not.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none in this directory. Nothing was made.
    #[error("there is no identity at {}; `detour id` makes one", .path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the identity {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else can read it.
    #[error(
        "others can read the identity {path} (mode {mode:o}): run `chmod 600 {path}`, or, if somebody may have copied it, \
         move it away and tell the peers the new one",
        path = .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What stands there is no Ed25519 key as libp2p writes them. It is left as it is.
    #[error(
        "the identity {} holds no Ed25519 key: put back a copy of it, or move it away and tell the peers the new one",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot make the identity {}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Identity {
    /// The one in `directory`.
    ///
    /// # Errors
    /// When there is none, or it is not to be used.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let bytes = match read_secret(&path) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(mode)) => return Err(IdentityError::Exposed { path, mode }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::Absent { path }),
            Err(source) => return Err(IdentityError::Unreadable { path, source }),
        };
        let key = Keypair::from_protobuf_encoding(&bytes).ok();
        key.and_then(Self::of).ok_or(IdentityError::Malformed { path })
    }

    /// The one in `directory`, made if there is none; whether it was made.
    ///
    /// # Errors
    /// When the one there is not to be used, or none can be made.
    pub fn load_or_create(directory: &Path) -> Result<(Self, bool), IdentityError> {
        let absent = match Self::load(directory) {
            Err(IdentityError::Absent { path }) => path,
            loaded => return loaded.map(|identity| (identity, false)),
        };
        let unwritable = |source| IdentityError::Unwritable {
            path: absent.clone(),
            source,
        };
        let identity = Self::generate().ok_or_else(|| unwritable(io::Error::other("no key could be made")))?;
        let bytes = identity.key.to_protobuf_encoding().map_err(io::Error::other);
        match bytes.and_then(|bytes| files::create(directory, IDENTITY_FILE, &bytes)) {
            Ok(()) => Ok((identity, true)),
            // Another process was faster; its identity is this node's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(directory).map(|identity| (identity, false))
            }
            Err(source) => Err(unwritable(source)),
        }
    }

    /// One that no file holds: for tests and tools.
    #[must_use]
    pub fn generate() -> Option<Self> {
        Self::of(Keypair::generate_ed25519())
    }

    fn of(key: Keypair) -> Option<Self> {
        let node = NodeId(key.public().try_into_ed25519().ok()?.to_bytes());
        Some(Self { key, node })
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// As people and configurations write it (`12D3Koo…`).
    #[must_use]
    pub fn peer_id(&self) -> String {
        self.key.public().to_peer_id().to_base58()
    }

    /// As libp2p needs it.
    #[must_use]
    pub fn keypair(&self) -> &Keypair {
        &self.key
    }

    /// Its signature of `message`. Ed25519 cannot fail to sign.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.key.sign(message).unwrap_or_default();
        signature.try_into().unwrap_or([0; 64])
    }
}

/// Whether `signature` of `message` is `node`'s.
pub(crate) fn is_signed_by(node: NodeId, message: &[u8], signature: &[u8]) -> bool {
    ed25519::PublicKey::try_from_bytes(&node.0).is_ok_and(|key| key.verify(message, signature))
}

/// How libp2p calls a node; `None` for bytes that are no key.
pub(crate) fn peer_of(node: NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Which node libp2p calls so; `None` for keys of another kind.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_HASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(NodeId(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The name that people know a node by: its peer id; hexadecimal digits for bytes that are no key.
#[must_use]
pub fn name_of(node: NodeId) -> String {
    peer_of(node).map_or_else(|| format!("{node:?}"), |peer| peer.to_base58())
}

/// What is in the file, or the permissions that make it no secret.
fn read_secret(path: &Path) -> io::Result<Result<Vec<u8>, u32>> {
    // Before it is opened: opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Ok(Err(mode));
    }
    files::read_start(file, BYTES_MAX).map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            Identity::load(directory.path()),
            Err(IdentityError::Absent { .. })
        ));
        let (made, is_new) = Identity::load_or_create(directory.path()).unwrap();
        assert!(is_new);
        let path = directory.path().join(IDENTITY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (kept, is_new) = Identity::load_or_create(directory.path()).unwrap();
        assert!(!is_new && kept.node() == made.node());
        assert!(made.peer_id().starts_with("12D3Koo"), "{made:?}");
        assert!(!format!("{made:?}").contains("Keypair"));
    }

    #[test]
    fn what_is_not_a_secret_key_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(IDENTITY_FILE);
        Identity::load_or_create(directory.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = Identity::load_or_create(directory.path()).unwrap_err().to_string();
        assert!(
            exposed.contains("mode 640") && exposed.contains("chmod 600"),
            "{exposed}"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for garbage in [&b""[..], b"garbage", &[0; 4_000]] {
            fs::write(&path, garbage).unwrap();
            let error = Identity::load_or_create(directory.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap(), garbage);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = Identity::load_or_create(directory.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Unreadable { .. }), "{error}");
        let error = Identity::load_or_create(&directory.path().join("absent")).unwrap_err();
        assert!(matches!(error, IdentityError::Unwritable { .. }), "{error}");
    }

    #[test]
    fn a_node_and_its_peer_id_are_one() {
        let identity = Identity::generate().unwrap();
        let peer = peer_of(identity.node()).unwrap();
        assert_eq!(peer.to_base58(), identity.peer_id());
        assert_eq!(node_of(&peer), Some(identity.node()));
        assert_eq!(name_of(identity.node()), identity.peer_id());
        // A hashed one (an RSA key's) is nobody's here.
        let hashed = libp2p::multihash::Multihash::wrap(0x12, &[7; 32]).unwrap();
        assert_eq!(node_of(&PeerId::from_multihash(hashed).unwrap()), None);
        assert_eq!(node_of(&PeerId::random()), None);
    }

    #[test]
    fn a_signature_is_its_signers_and_its_messages() {
        let identity = Identity::generate().unwrap();
        let signature = identity.sign(b"message");
        assert!(is_signed_by(identity.node(), b"message", &signature));
        assert!(!is_signed_by(identity.node(), b"massage", &signature));
        assert!(!is_signed_by(NodeId([7; 32]), b"message", &signature));
        assert!(!is_signed_by(identity.node(), b"message", &signature[1..]));
    }
}
