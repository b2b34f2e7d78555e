//! Pipes, sockets and devices: names for programs of one machine, without content here.

use proto::error::{ErrorCode, FsError, FsResult};
use proto::log::MakeNode;
use proto::namespace::FileKind;
use proto::path::FsPath;

use super::make::{Maker, passes_setgid};
use super::mkdir::parent_missing;
use crate::namespace::resolve::{Last, mode_bits};
use crate::namespace::store::records::Kind;
use crate::namespace::{Call, Namespace, Outcome, registry};

impl Namespace {
    pub(in crate::namespace) fn make_node(&mut self, call: &Call<'_>, make: &MakeNode) -> FsResult<Outcome> {
        let who = self.who_calls(call)?;
        let path = FsPath::parse(&make.path)?;
        let (kind, device) = wanted(make)?;
        let (mode, unmasked) = (mode_bits(make.mode)?, make.unmasked_mode.map(mode_bits).transpose()?);
        let walk = self.walk(&who, &path, Last::Keep)?;
        let name = match &walk.missing[..] {
            [] => return Err(FsError::new(ErrorCode::AlreadyExists, "the name exists").with_path(path.as_str())),
            [name] => name,
            _ => return Err(parent_missing(&path)),
        };
        self.check_addable(&who, walk.at, &walk.missing, &path)?;

        let owner = self.store.interned.intern(who.user);
        let maker = Maker { owner, mode, unmasked, now_ns: call.now_ns, passes_setgid: passes_setgid(call) };
        let mut inode = self.new_inode(kind, &maker, walk.at);
        inode.block_size_units = device;
        let slot = self.store.add_inode(inode);
        self.inherit(walk.at, slot, &maker);
        self.store.link(walk.at, name, slot);
        self.touch(walk.at, call.now_ns);
        Ok(Outcome::Status(self.status(slot, path.as_str())))
    }
}

/// What is to be made, and the number of a device.
fn wanted(make: &MakeNode) -> FsResult<(Kind, u32)> {
    let kind = i32::try_from(make.kind).ok().and_then(|kind| FileKind::try_from(kind).ok());
    match kind {
        Some(FileKind::Fifo) => Ok((Kind::Fifo, 0)),
        Some(FileKind::Socket) => Ok((Kind::Socket, 0)),
        Some(FileKind::CharacterDevice) => Ok((Kind::CharacterDevice, make.device)),
        Some(FileKind::BlockDevice) => Ok((Kind::BlockDevice, make.device)),
        _ => Err(registry::invalid(format!("kind {} is no pipe, socket or device", make.kind))),
    }
}

/// Who asks for the content of such a name.
pub(in crate::namespace) fn no_content(path: &FsPath) -> FsError {
    FsError::new(ErrorCode::InvalidArgument, "is a pipe, a socket or a device, which has no content here")
        .with_path(path.as_str())
}
