//! `corten image export`, and an import from a pipe.

use super::archive::Archive;
use super::{Daemon, ImportSteps};
use crate::cli::ask::refused;
use crate::error::{Context, Error, Kind, Result};
use clap::ValueEnum;
use corten_proto::admin::v1::export_image_part::Part;
use corten_proto::admin::v1::{ArchiveForm, ExportImageRequest, ImportArchiveRequest};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

/// Bytes that are sent at once.
const PIECE: usize = 256 << 10;

/// The form of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A tar of an OCI layout.
    #[default]
    OciArchive,
    /// The same, which `docker load` and skopeo's docker-archive read too.
    DockerArchive,
    /// An OCI layout as a directory.
    Oci,
}

/// What to export, and where to.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// Names of the images, or ids or their beginnings.
    #[arg(required = true)]
    images: Vec<String>,
    /// Form of the export.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// The file or directory to write; without, the archive goes to stdout.
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
}

/// Writes images to a file, a pipe or a directory.
///
/// # Errors
/// Where there is no such image, one of its blobs was not kept, or it cannot be written.
pub(super) async fn export(mut daemon: Daemon, asked: Export) -> Result<()> {
    let form = match asked.format {
        Form::DockerArchive => ArchiveForm::Docker,
        Form::OciArchive | Form::Oci => ArchiveForm::Oci,
    };
    let request = ExportImageRequest {
        images: asked.images,
        form: form.into(),
    };
    let answer = daemon.export_image(request).await;
    let mut parts = answer.map_err(|e| refused(&e))?.into_inner();
    let mut archive = match (asked.format, &asked.to) {
        (Form::Oci, Some(path)) => Archive::folder(path)?,
        (Form::Oci, None) => {
            let text = "a directory needs a name: --to PATH, or --format oci-archive for a pipe";
            return Err(Error::invalid(text));
        }
        (_, to) => Archive::tar(to.as_deref())?,
    };
    loop {
        let part = parts.message().await.map_err(|e| refused(&e));
        let written = match part.map(|part| part.map(|part| part.part)) {
            Ok(None) => return archive.end(),
            Ok(Some(Some(Part::Member(member)))) => archive.member(&member.name, member.size),
            Ok(Some(Some(Part::Data(data)))) => archive.data(&data),
            Ok(Some(None)) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            archive.abandon();
            return Err(error);
        }
    }
}

/// Whether an import has to be sent to the daemon: it is no file that can be opened twice.
pub(super) fn is_pipe(path: &Path) -> bool {
    path == Path::new("-") || !(path.is_file() || path.is_dir())
}

/// Sends an archive from stdin (`-`) or another pipe.
///
/// # Errors
/// Where it cannot be read, or the daemon refuses it.
pub(super) async fn import_pipe(
    mut daemon: Daemon,
    path: &Path,
    references: Vec<String>,
) -> Result<(ImportSteps, oneshot::Receiver<std::io::Result<()>>)> {
    let from = match path == Path::new("-") {
        true => std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map(File::from),
        false => File::open(path),
    };
    let from = from.context(Kind::NotFound, || path.display().to_string())?;
    let (sender, receiver) = mpsc::channel(4);
    let (done, read) = oneshot::channel();
    // A thread that nobody waits for: a pipe that says nothing holds up no refusal.
    std::thread::spawn(move || done.send(send(from, references, &sender)));
    let answer = daemon.import_archive(ReceiverStream::new(receiver)).await;
    Ok((answer.map_err(|e| refused(&e))?.into_inner(), read))
}

fn send(
    mut from: impl Read,
    mut references: Vec<String>,
    to: &mpsc::Sender<ImportArchiveRequest>,
) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece)?;
        let request = ImportArchiveRequest {
            references: std::mem::take(&mut references),
            data: piece[..read].to_vec(),
        };
        // Who does not listen any more has a reason of its own to tell.
        if to.blocking_send(request).is_err() || read == 0 {
            return Ok(());
        }
    }
}
