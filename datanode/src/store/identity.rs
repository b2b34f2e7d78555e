//! Who a volume is, and the highest term that its node obeyed: docs/formats/identity-volume.md.

use std::path::Path;

use base::crash::CrashPoint;
use base::disk::Disk;
use base::two_slot::{TwoSlotError, TwoSlotFile};
use prost::Message;
use proto::ids::{ClusterId, NodeId, PoolId, StorageId, Term};
use proto::store::{VolumeIdentity, VolumeTerm};

use super::error::StoreError;
use super::layout;

const IDENTITY_MAGIC: [u8; 8] = *b"BYVOLUME";
const TERM_MAGIC: [u8; 8] = *b"BYVLTERM";
const VERSION: u32 = 1;

/// A volume's identity, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Cluster and pool; `None` until the node's first registration.
    pub(crate) membership: Option<(ClusterId, PoolId)>,
    pub(crate) node: NodeId,
    pub(crate) storage: StorageId,
}

impl Identity {
    fn to_record(&self) -> VolumeIdentity {
        let text = |pick: fn(&(ClusterId, PoolId)) -> String| self.membership.as_ref().map(pick).unwrap_or_default();
        VolumeIdentity {
            version: VERSION,
            cluster: text(|(cluster, _)| cluster.to_string()),
            pool: text(|(_, pool)| pool.to_string()),
            node: self.node.to_string(),
            storage: self.storage.to_string(),
            media: "DISK".to_owned(),
            created_by: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
    fn from_record(record: &VolumeIdentity) -> Result<Self, String> {
        if record.version > VERSION {
            return Err(format!("identity version {} is newer than this program's {VERSION}", record.version));
        }
        let membership = match (record.cluster.as_str(), record.pool.as_str()) {
            ("", "") => None,
            (cluster, pool) => Some((
                ClusterId::parse(cluster).map_err(|error| error.to_string())?,
                PoolId::parse(pool).map_err(|error| error.to_string())?,
            )),
        };
        Ok(Self {
            membership,
            node: NodeId::parse(&record.node).map_err(|error| error.to_string())?,
            storage: StorageId::parse(&record.storage).map_err(|error| error.to_string())?,
        })
    }
}

/// An open identity file.
#[derive(Debug)]
pub(crate) struct IdentityFile(TwoSlotFile);

impl IdentityFile {
    pub(crate) fn open(disk: &dyn Disk, volume: &Path) -> Result<Option<(Self, Identity)>, StoreError> {
        let path = volume.join(layout::IDENTITY);
        let Some((file, body)) = TwoSlotFile::open(disk, &path, IDENTITY_MAGIC, CrashPoint::IdentitySync)? else {
            return Ok(None);
        };
        let refuse = |problem: String| StoreError::Refused { path: path.display().to_string(), problem };
        let record = VolumeIdentity::decode(body.as_slice()).map_err(|error| refuse(error.to_string()))?;
        let identity = Identity::from_record(&record).map_err(refuse)?;
        Ok(Some((Self(file), identity)))
    }
    pub(crate) fn create(disk: &dyn Disk, volume: &Path, identity: &Identity) -> Result<Self, StoreError> {
        let path = volume.join(layout::IDENTITY);
        let body = identity.to_record().encode_to_vec();
        Ok(Self(TwoSlotFile::create(disk, &path, IDENTITY_MAGIC, &body, CrashPoint::IdentitySync)?))
    }
    pub(crate) fn write(&mut self, identity: &Identity, volume: &Path) -> Result<(), StoreError> {
        let path = volume.join(layout::IDENTITY);
        self.0.put(&identity.to_record().encode_to_vec()).map_err(StoreError::slot(&path))
    }
}

/// The highest term in which this node took a command, kept on every volume.
#[derive(Debug)]
pub(crate) struct TermFile {
    file: TwoSlotFile,
    term: Term,
}

impl TermFile {
    /// Opens the file, or makes it with term 0 on a volume that is not `joined` to a cluster yet. A damaged or
    /// lost one is an error: a node that forgot its term could obey a deposed leader (SC-50, SC-70).
    pub(crate) fn open_or_create(disk: &dyn Disk, volume: &Path, joined: bool) -> Result<Self, StoreError> {
        let path = volume.join(layout::TERM);
        let found = TwoSlotFile::open(disk, &path, TERM_MAGIC, CrashPoint::TermSync)?;
        let Some((file, body)) = found else {
            if joined {
                let problem = "the file is missing, though this volume belongs to a cluster. Restore it from a copy, or \
                               give the node an empty volume in place of this one; nothing was changed";
                return Err(StoreError::Refused { path: path.display().to_string(), problem: problem.to_owned() });
            }
            let body = VolumeTerm { term: 0 }.encode_to_vec();
            let file = TwoSlotFile::create(disk, &path, TERM_MAGIC, &body, CrashPoint::TermSync)?;
            return Ok(Self { file, term: Term::from_raw(0) });
        };
        let record = VolumeTerm::decode(body.as_slice())
            .map_err(|_error| TwoSlotError::Damaged { path: path.display().to_string() })?;
        Ok(Self { file, term: Term::from_raw(record.term) })
    }
    pub(crate) const fn term(&self) -> Term {
        self.term
    }
    /// Makes a higher term durable; a lower one changes nothing.
    pub(crate) fn raise(&mut self, term: Term, volume: &Path) -> Result<(), StoreError> {
        if term <= self.term {
            return Ok(());
        }
        let body = VolumeTerm { term: term.raw() }.encode_to_vec();
        self.file.put(&body).map_err(StoreError::slot(&volume.join(layout::TERM)))?;
        self.term = term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::MemDisk;
    use proptest::prelude::*;

    fn volume() -> MemDisk {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/v"), CrashPoint::VolumeDirCreate).unwrap();
        disk
    }

    #[test]
    fn sc_50_a_lost_term_file_of_a_cluster_is_refused_and_not_made_anew() {
        let disk = volume();
        let refused = TermFile::open_or_create(&disk, Path::new("/v"), true).unwrap_err().to_string();
        assert!(refused.contains("/v/term") && refused.contains("the file is missing"), "{refused}");
        assert!(disk.files().is_empty(), "nothing was made");
    }

    #[test]
    fn sc_70_a_term_survives_one_damaged_slot_and_is_never_forgotten_with_two() {
        for damaged in [&[0_u64][..], &[4096], &[0, 4096]] {
            let disk = volume();
            let mut file = TermFile::open_or_create(&disk, Path::new("/v"), false).unwrap();
            file.raise(Term::from_raw(7), Path::new("/v")).unwrap();
            disk.process_died();
            for slot in damaged {
                disk.flip_bit(Path::new("/v/term"), slot + 25, 0).unwrap();
            }
            match TermFile::open_or_create(&disk, Path::new("/v"), false) {
                Ok(found) => assert_eq!((found.term(), damaged.len()), (Term::from_raw(7), 1)),
                Err(error) => assert_eq!(damaged.len(), 2, "{error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_in_a_sound_slot_is_refused_or_read_and_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let disk = volume();
            let (identity, term) = (Path::new("/v/identity"), Path::new("/v/term"));
            TwoSlotFile::create(&disk, identity, IDENTITY_MAGIC, &body, CrashPoint::IdentitySync).unwrap();
            TwoSlotFile::create(&disk, term, TERM_MAGIC, &body, CrashPoint::TermSync).unwrap();
            let found = IdentityFile::open(&disk, Path::new("/v"));
            if let Ok(found) = found {
                let same = found.is_some_and(|(_, identity)| !identity.node.as_str().is_empty());
                prop_assert!(same, "an identity without a node");
            }
            TermFile::open_or_create(&disk, Path::new("/v"), false).ok();
        }
    }

    #[test]
    fn terms_only_rise_and_survive() {
        let disk = MemDisk::new();
        let volume = Path::new("/v");
        disk.shared().create_dir_all(volume, CrashPoint::VolumeDirCreate).unwrap();
        let mut file = TermFile::open_or_create(disk.shared().as_ref(), volume, false).unwrap();
        file.raise(Term::from_raw(7), volume).unwrap();
        file.raise(Term::from_raw(3), volume).unwrap();
        assert_eq!(TermFile::open_or_create(disk.shared().as_ref(), volume, false).unwrap().term(), Term::from_raw(7));
    }

    #[test]
    fn identities_round_trip_with_and_without_a_cluster() {
        let disk = MemDisk::new();
        let volume = Path::new("/v");
        disk.shared().create_dir_all(volume, CrashPoint::VolumeDirCreate).unwrap();
        let mut identity = Identity { membership: None, node: NodeId::new("n"), storage: StorageId::new("1") };
        let mut file = IdentityFile::create(disk.shared().as_ref(), volume, &identity).unwrap();
        let (_, read) = IdentityFile::open(disk.shared().as_ref(), volume).unwrap().unwrap();
        assert_eq!(read, identity);
        identity.membership = Some((ClusterId::new("1"), PoolId::new("1")));
        file.write(&identity, volume).unwrap();
        let (_, read) = IdentityFile::open(disk.shared().as_ref(), volume).unwrap().unwrap();
        assert_eq!(read, identity);
    }

    #[test]
    fn malformed_records_are_refused() {
        let good = Identity { membership: None, node: NodeId::new("n"), storage: StorageId::new("1") }.to_record();
        assert!(Identity::from_record(&good).is_ok());
        for bad in [
            VolumeIdentity { version: 2, ..good.clone() },
            VolumeIdentity { cluster: "CID-1".into(), ..good.clone() },
            VolumeIdentity { storage: String::new(), ..good.clone() },
            VolumeIdentity { node: "a/b".into(), ..good.clone() },
        ] {
            assert!(Identity::from_record(&bad).is_err(), "{bad:?}");
        }
    }
}
