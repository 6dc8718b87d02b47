//! The C2SP tlog-tiles layout: names of resources, and the bytes inside them. Pure; folders are in
//! [`crate::tile_folder`].

use std::fmt::Write as _;

use crate::hash::{HASH_BYTES, Hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Largest entry that a bundle can hold; our own leaves are smaller (see [`crate::MAX_LEAF_BYTES`]).
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// One tile of hashes. `width` is 1 to 256; below 256 the tile is partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    pub level: u8,
    pub index: u64,
    pub width: u16,
}

/// What a path of the layout names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Checkpoint,
    Tile(TileId),
    /// An entry bundle: index and width.
    Bundle(u64, u16),
}

/// Why a tile, a bundle or its folder could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TileError {
    #[error("failed to read a tile: {found} bytes are not 1 to 256 hashes")]
    NotHashes { found: usize },
    #[error("failed to read an entry bundle: it is cut short or has bytes left over")]
    Torn,
    #[error("failed to read an entry bundle: expected {expected} entries, found {found}")]
    WrongWidth { expected: u16, found: usize },
    #[error("failed to write an entry of {bytes} bytes: a bundle takes at most 65535")]
    EntryTooLarge { bytes: usize },
    #[error("failed to read {path}: it is larger than such a file can be")]
    FileTooLarge { path: String },
    #[error(
        "failed to publish a checkpoint of {size} leaves with root {root}: the folder's tree has {found_size} leaves and root {found_root}"
    )]
    OtherTree { size: u64, root: Hash, found_size: u64, found_root: Hash },
    #[error("failed to read the folder's checkpoint: {why}")]
    BadCheckpoint { why: String },
    #[error("failed to {doing} {path}")]
    Io {
        doing: &'static str,
        path: String,
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
}

impl TileId {
    /// The tile at (level, index) as a tree of `size` leaves has it: full, partial, or none.
    #[must_use]
    pub fn for_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let width = hashes.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = u16::try_from(width.min(u64::from(TILE_WIDTH))).ok()?;
        (width > 0).then_some(Self { level, index, width })
    }

    /// Whether it has all 256 hashes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }
}

/// Path of a tile below the log's prefix, such as `tile/0/x001/234.p/8`.
#[must_use]
pub fn tile_path(tile: TileId) -> String {
    format!("tile/{}/{}", tile.level, numbered(tile.index, tile.width))
}

/// Path of an entry bundle below the log's prefix.
#[must_use]
pub fn bundle_path(index: u64, width: u16) -> String {
    format!("tile/entries/{}", numbered(index, width))
}

fn numbered(index: u64, width: u16) -> String {
    let (mut groups, mut rest) = (vec![index % 1000], index / 1000);
    while rest > 0 {
        groups.push(rest % 1000);
        rest /= 1000;
    }
    let mut path = String::new();
    for (position, group) in groups.iter().enumerate().rev() {
        // Writing to a String cannot fail.
        let _ = if position == 0 { write!(path, "{group:03}") } else { write!(path, "x{group:03}/") };
    }
    if width < TILE_WIDTH {
        let _ = write!(path, ".p/{width}");
    }
    path
}

/// Reads a path of the layout; only the one canonical spelling of each resource is accepted.
#[must_use]
pub fn parse_path(path: &str) -> Option<Resource> {
    if path == "checkpoint" {
        return Some(Resource::Checkpoint);
    }
    let (kind, number) = path.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match number.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok()?),
        None => (number, TILE_WIDTH),
    };
    let mut index = 0_u64;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    let (resource, canonical) = if kind == "entries" {
        (Resource::Bundle(index, width), bundle_path(index, width))
    } else {
        let tile = TileId { level: kind.parse().ok().filter(|level| *level < 64)?, index, width };
        (Resource::Tile(tile), tile_path(tile))
    };
    (width > 0 && canonical == path).then_some(resource)
}

/// Bytes of a tile.
#[must_use]
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Hashes of a tile.
///
/// # Errors
/// When the bytes are not 1 to 256 whole hashes.
pub fn decode_tile(bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
    let wrong = TileError::NotHashes { found: bytes.len() };
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.is_empty() || hashes.len() > usize::from(TILE_WIDTH) || !rest.is_empty() {
        return Err(wrong);
    }
    Ok(hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect())
}

/// Bytes of an entry bundle: each entry behind its length as a big-endian 16-bit number.
///
/// # Errors
/// When an entry is longer than 65,535 bytes.
pub fn encode_bundle<L: AsRef<[u8]>>(entries: &[L]) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 2).sum());
    for entry in entries {
        let entry = entry.as_ref();
        let length =
            u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLarge { bytes: entry.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Entries of a bundle of this width.
///
/// # Errors
/// When the bytes are torn or the number of entries is another.
pub fn decode_bundle(mut bytes: &[u8], width: u16) -> Result<Vec<Vec<u8>>, TileError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(TileError::Torn)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(TileError::Torn)?;
        entries.push(entry.to_vec());
        if entries.len() > usize::from(TILE_WIDTH) {
            break;
        }
        bytes = rest;
    }
    if entries.len() != usize::from(width) {
        return Err(TileError::WrongWidth { expected: width, found: entries.len() });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = TileId { level: 0, index: 1_234_067, width: 256 };
        assert_eq!(tile_path(tile), "tile/0/x001/x234/067");
        assert_eq!(bundle_path(5, 17), "tile/entries/005.p/17");
        assert_eq!(parse_path("tile/0/x001/x234/067"), Some(Resource::Tile(tile)));
        assert_eq!(parse_path("tile/entries/005.p/17"), Some(Resource::Bundle(5, 17)));
        assert_eq!(parse_path("checkpoint"), Some(Resource::Checkpoint));
        for wrong in [
            "tile/0/5",
            "tile/00/005",
            "tile/64/005",
            "tile/0/x000/005",
            "tile/0/005.p/0",
            "tile/0/005.p/256",
            "tile/0/005.p/07",
            "tile/0/../etc",
            "tile/0/001/005",
            "tile/0/x005",
            "tile/0/+05",
            "/tile/0/005",
        ] {
            assert_eq!(parse_path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_that_the_specification_counts() {
        let widths = |level: u8| {
            (0..)
                .map_while(|index| TileId::for_tree(level, index, 70_000))
                .map(|tile| tile.width)
                .collect::<Vec<_>>()
        };
        let (zero, one, two) = (widths(0), widths(1), widths(2));
        assert_eq!((zero.len(), zero[272], zero[273]), (274, 256, 112));
        assert_eq!((one, two), (vec![256, 17], vec![1]));
        assert!(widths(3).is_empty());
        assert_eq!(TileId::for_tree(1, 0, 256).map(|tile| tile.width), Some(1));
    }

    #[test]
    fn bundles_go_and_return_and_torn_ones_are_refused() {
        let entries = vec![b"one".to_vec(), Vec::new(), vec![7; 65_535]];
        let bytes = encode_bundle(&entries).unwrap();
        assert_eq!(bytes[..5], [0, 3, b'o', b'n', b'e']);
        assert_eq!(decode_bundle(&bytes, 3).unwrap(), entries);
        assert!(matches!(decode_bundle(&bytes, 2), Err(TileError::WrongWidth { .. })));
        assert!(matches!(decode_bundle(&bytes[..bytes.len() - 1], 3), Err(TileError::Torn)));
        assert!(matches!(encode_bundle(&[vec![0; 65_536]]), Err(TileError::EntryTooLarge { .. })));
        assert!(
            decode_tile(&[0; 33]).is_err()
                && decode_tile(&[]).is_err()
                && decode_tile(&[0; 257 * 32]).is_err()
        );
    }
}
