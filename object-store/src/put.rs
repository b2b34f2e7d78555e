//! Making, copying, moving and removing objects. A file appears, whole, when it is closed: so does an object.

use client::{Client, CreateOptions, ErrorCode, FileKind, Replace, Writer};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, PutMode, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode,
    Result,
};

use crate::error::{Doing, not_found, not_implemented, refused};
use crate::place::e_tag;
use crate::store::BlockyardStore;
use crate::upload::write;

/// Mode of directories that are made for an object that moves there.
const DIRECTORY_MODE: u32 = 0o755;

impl BlockyardStore {
    pub(crate) async fn put_object(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        check_attributes(&options.attributes)?;
        let doing = match options.mode {
            PutMode::Overwrite => Doing::Writing,
            PutMode::Create => Doing::Creating,
            PutMode::Update(_) => return Err(not_implemented("put_opts with PutMode::Update")),
        };
        let refused = |error| refused(error, location, doing);
        let mut writer = self.create(location, doing, payload.content_length() == 0).await?;
        write(&mut writer, payload).await.map_err(refused)?;
        Ok(put_result(&writer.close().await.map_err(refused)?))
    }

    /// A file that becomes an object when it is closed, and nothing if it is dropped.
    pub(crate) async fn create(&self, location: &Path, doing: Doing, empty: bool) -> Result<Writer> {
        let options = CreateOptions { overwrite: doing == Doing::Writing, parents: true, empty, ..self.new_files() };
        let created = self.client().create(&self.root().path_of(location)?, options).await;
        created.map_err(|error| refused(error, location, doing))
    }

    /// How files of this store are made.
    pub(crate) fn new_files(&self) -> CreateOptions {
        let (replication, block_size_bytes) = (self.options().replication, self.options().block_size_bytes);
        CreateOptions { replication, block_size_bytes, ..CreateOptions::default() }
    }

    pub(crate) async fn copy_object(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let doing = match options.mode {
            CopyMode::Overwrite => Doing::Writing,
            CopyMode::Create => Doing::Creating,
        };
        let mut reader = self.open(from).await?;
        let mut writer = self.create(to, doing, reader.len_bytes() == 0).await?;
        while let Some(bytes) = reader.next().await.map_err(|error| refused(error, from, Doing::Reading))? {
            writer.write(bytes).await.map_err(|error| refused(error, to, doing))?;
        }
        writer.close().await.map(drop).map_err(|error| refused(error, to, doing))
    }

    /// In one step: there is no moment at which both are there, or none.
    pub(crate) async fn rename_object(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (replace, doing) = match options.target_mode {
            RenameTargetMode::Overwrite => (Replace::Allow, Doing::Writing),
            RenameTargetMode::Create => (Replace::Refuse, Doing::Creating),
        };
        self.check_is_object(from).await?;
        if from == to && doing == Doing::Writing {
            return Ok(());
        }
        let (source, target) = (self.root().path_of(from)?, self.root().path_of(to)?);
        let mut renamed = self.client().rename(&source, &target, replace).await;
        if renamed.as_ref().is_err_and(|error| error.code == ErrorCode::NotFound) {
            let above = self.root().directory_of(to)?;
            let made = self.client().mkdir(&above, DIRECTORY_MODE, true).await;
            made.map_err(|error| refused(error, to, doing))?;
            renamed = self.client().rename(&source, &target, replace).await;
        }
        renamed.map_err(|error| {
            let missing = error.code == ErrorCode::NotFound;
            refused(error, if missing { from } else { to }, doing)
        })?;
        self.tidy_above(from).await;
        Ok(())
    }

    pub(crate) async fn remove_object(&self, location: &Path) -> Result<()> {
        // The cluster would remove an empty directory, too.
        self.check_is_object(location).await?;
        let removed = self.client().delete(&self.root().path_of(location)?, false).await;
        removed.map_err(|error| match error.code {
            // A directory has taken its place meanwhile.
            ErrorCode::NotEmpty => not_found(location, "a directory has this name"),
            _ => refused(error, location, Doing::Reading),
        })?;
        self.tidy_above(location).await;
        Ok(())
    }

    /// A symbolic link counts as what is there: it is what goes.
    async fn check_is_object(&self, location: &Path) -> Result<()> {
        let status = self.client().stat_link(&self.root().path_of(location)?).await;
        let status = status.map_err(|error| refused(error, location, Doing::Reading))?;
        if status.kind() == FileKind::Directory {
            return Err(not_found(location, "a directory has this name"));
        }
        Ok(())
    }

    /// Removes the directories above that became empty, if this store does so.
    async fn tidy_above(&self, location: &Path) {
        let mut location = location.clone();
        while self.options().remove_empty_directories {
            let Some((above, _)) = location.as_ref().rsplit_once('/') else { break };
            let Ok(directory) = Path::parse(above) else { break };
            if !remove_if_empty(self.client(), self.root().path_of(&directory)).await {
                break;
            }
            location = directory;
        }
    }
}

/// Says whether it is gone. Why not is no matter: the object that was asked about is gone.
async fn remove_if_empty(client: &Client, path: Result<String>) -> bool {
    let Ok(path) = path else { return false };
    // A link is never "not empty", and leads to what is not this store's to remove.
    if !client.stat_link(&path).await.is_ok_and(|status| status.kind() == FileKind::Directory) {
        return false;
    }
    match client.delete(&path, false).await {
        Ok(_) => true,
        Err(error) => {
            if error.code != ErrorCode::NotEmpty {
                tracing::debug!("{path} was not removed: {error}");
            }
            false
        }
    }
}

/// Objects have no attributes here.
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<()> {
    if attributes.is_empty() { Ok(()) } else { Err(not_implemented("attributes of objects")) }
}

/// What is told of an object that was just made.
pub(crate) fn put_result(status: &client::FileStatus) -> PutResult {
    PutResult { e_tag: Some(e_tag(status)), version: None }
}
