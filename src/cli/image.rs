//! `corten image …`.

mod archive;
mod export;
mod inspect;

use super::ask::{Output, connect, print, refused};
use super::progress::Progress;
use super::table::{bytes, short, table};
use crate::error::{Context, Kind, Result};
use clap::Subcommand;
use corten_proto::admin::v1::admin_client::AdminClient;
use corten_proto::admin::v1::check_images_response::Event as CheckEvent;
use corten_proto::admin::v1::import_image_progress::Event as ImportEvent;
use corten_proto::admin::v1::pull_image_progress::Event as PullEvent;
use corten_proto::admin::v1::{
    CheckImagesRequest, CheckSummary, ExplainPullRequest, Finding, Image, ImportImageProgress,
    ImportImageRequest, ListImagesRequest, PullImageRequest, PullRoute, RemoveImageRequest,
    StoredImage,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tonic::Streaming;
use tonic::transport::Channel;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// List the images of the node.
    List {
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show an image's names, layers and config.
    Inspect {
        /// One of its names, or its id or the beginning of it.
        image: String,
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Pull an image from its registry.
    Pull {
        /// Its name: busybox, registry.example.org/app:1, app@sha256:…
        reference: String,
        /// Only tell which hosts would be asked for what, and which line of which file says so.
        #[arg(long)]
        explain: bool,
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Read images from an archive (docker save, OCI) or an OCI layout directory.
    Import {
        /// The archive or directory; `-` reads an archive from stdin.
        path: PathBuf,
        /// A further name for the image; may be given several times.
        #[arg(long = "name", value_name = "REFERENCE")]
        names: Vec<String>,
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Write images to a file, a pipe or a directory, blob for blob as they were pulled: with
    /// `keep_blobs = true` in the configuration.
    Export(export::Export),
    /// Remove an image with all its names.
    Remove {
        /// One of its names, or its id or the beginning of it.
        image: String,
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Read every file of every layer and hold it against what it was when it was pulled; the exit code
    /// is 1 where something is wrong, and was not repaired.
    Check {
        /// Images to check; by default the whole store.
        images: Vec<String>,
        /// Fetch what is broken again, while containers run on.
        #[arg(long)]
        repair: bool,
        /// Form of the answer.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

type Daemon = AdminClient<Channel>;
type ImportSteps = Streaming<ImportImageProgress>;

/// Does it.
///
/// # Errors
/// Where the daemon cannot be reached, or refuses.
pub async fn image(endpoint: &Path, verb: ImageVerb) -> Result<ExitCode> {
    let daemon = connect(endpoint).await?;
    match verb {
        ImageVerb::List { output } => list(daemon, output).await?,
        ImageVerb::Inspect { image, output } => inspect::inspect(daemon, image, output).await?,
        ImageVerb::Pull {
            reference,
            explain: true,
            output,
        } => explain(daemon, reference, output).await?,
        ImageVerb::Pull {
            reference, output, ..
        } => pull(daemon, reference, output).await?,
        ImageVerb::Import {
            path,
            names,
            output,
        } => import(daemon, &path, names, output).await?,
        ImageVerb::Export(asked) => export::export(daemon, asked).await?,
        ImageVerb::Remove { image, output } => remove(daemon, image, output).await?,
        ImageVerb::Check {
            images,
            repair,
            output,
        } => return check(daemon, CheckImagesRequest { images, repair }, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(mut daemon: Daemon, output: Output) -> Result<()> {
    let answer = daemon.list_images(ListImagesRequest {}).await;
    let mut images = answer.map_err(|e| refused(&e))?.into_inner().images;
    images.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
    match output {
        Output::Table => print(&image_table(&images)),
        Output::Json => print(&format!(
            "{:#}",
            images.iter().map(image_json).collect::<Value>()
        )),
    }
}

fn image_table(images: &[Image]) -> String {
    let heading = ["IMAGE", "ID", "SIZE", ""].map(str::to_owned).to_vec();
    let rows = images.iter().flat_map(|image| {
        let names = match (&image.tags[..], &image.digests[..]) {
            ([], []) => vec!["<none>".to_owned()],
            ([], digests) => digests.to_vec(),
            (tags, _) => tags.to_vec(),
        };
        let pinned = image.pinned.then_some("pinned");
        let artifact = (!image.artifact_type.is_empty()).then_some("artifact");
        let notes: Vec<_> = artifact.into_iter().chain(pinned).collect();
        let row = |name| vec![name, short(&image.id), bytes(image.size), notes.join(", ")];
        names.into_iter().map(row).collect::<Vec<_>>()
    });
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

fn image_json(image: &Image) -> Value {
    json!({
        "id": image.id,
        "tags": image.tags,
        "digests": image.digests,
        "size": image.size,
        "pinned": image.pinned,
        "artifactType": image.artifact_type,
    })
}

async fn pull(mut daemon: Daemon, reference: String, output: Output) -> Result<()> {
    let asked = PullImageRequest {
        reference,
        auth: None,
    };
    let answer = daemon.pull_image(asked).await.map_err(|e| refused(&e))?;
    let mut steps = answer.into_inner();
    let mut progress = Progress::new();
    while let Some(step) = steps.message().await.map_err(|e| refused(&e))? {
        match step.event {
            Some(PullEvent::Layer(layer)) => progress.step(layer),
            Some(PullEvent::Image(image)) => stored(&image, output)?,
            None => {}
        }
    }
    Ok(())
}

async fn explain(mut daemon: Daemon, reference: String, output: Output) -> Result<()> {
    let answer = daemon.explain_pull(ExplainPullRequest { reference }).await;
    let routes = answer.map_err(|e| refused(&e))?.into_inner().routes;
    match output {
        Output::Table => print(&route_table(&routes)),
        Output::Json => print(&format!(
            "{:#}",
            routes.iter().map(route_json).collect::<Value>()
        )),
    }
}

fn route_table(routes: &[PullRoute]) -> String {
    let heading = ["IMAGE", "HOST", "ASKED FOR", "BECAUSE OF"].map(str::to_owned);
    let row = |route: &PullRoute| {
        let mut url = route.url.clone();
        if !route.namespace.is_empty() {
            url.push_str(&format!("?ns={}", route.namespace));
        }
        let mut asked_for = match route.asked_for.is_empty() {
            true => "nothing".to_owned(),
            false => route.asked_for.join(", "),
        };
        if route.skip_verify {
            asked_for.push_str(" (any certificate)");
        }
        let place = match route.place.is_empty() {
            true => "its name".to_owned(),
            false => route.place.clone(),
        };
        vec![route.image.clone(), url, asked_for, place]
    };
    let rows = routes.iter().map(row);
    table(
        &std::iter::once(heading.to_vec())
            .chain(rows)
            .collect::<Vec<_>>(),
    )
}

fn route_json(route: &PullRoute) -> Value {
    json!({
        "image": route.image,
        "url": route.url,
        "namespace": route.namespace,
        "askedFor": route.asked_for,
        "mirror": route.mirror,
        "skipVerify": route.skip_verify,
        "place": route.place,
    })
}

async fn import(
    mut daemon: Daemon,
    path: &Path,
    references: Vec<String>,
    output: Output,
) -> Result<()> {
    if export::is_pipe(path) {
        let (steps, read) = export::import_pipe(daemon, path, references).await?;
        let imported = imported(steps, output).await;
        // What could not be read is why the rest made no sense.
        let read = read.await.unwrap_or(Ok(()));
        read.context(Kind::Internal, || format!("read {}", path.display()))?;
        return imported;
    }
    let path = path
        .canonicalize()
        .context(Kind::NotFound, || path.display().to_string())?;
    let asked = ImportImageRequest {
        path: path.display().to_string(),
        references,
    };
    let answer = daemon.import_image(asked).await.map_err(|e| refused(&e))?;
    imported(answer.into_inner(), output).await
}

async fn imported(mut steps: ImportSteps, output: Output) -> Result<()> {
    let mut progress = Progress::new();
    while let Some(step) = steps.message().await.map_err(|e| refused(&e))? {
        match step.event {
            Some(ImportEvent::Layer(layer)) => progress.step(layer),
            Some(ImportEvent::Image(image)) => stored(&image, output)?,
            None => {}
        }
    }
    Ok(())
}

/// An image that is there now: its id, for a person with its names.
fn stored(image: &StoredImage, output: Output) -> Result<()> {
    match output {
        Output::Table => print(&format!(
            "{}  {}",
            image.image_id,
            image.references.join(" ")
        )),
        Output::Json => {
            print(&json!({"id": image.image_id, "references": image.references}).to_string())
        }
    }
}

async fn remove(mut daemon: Daemon, image: String, output: Output) -> Result<()> {
    let answer = daemon.remove_image(RemoveImageRequest { image }).await;
    let removed = answer.map_err(|e| refused(&e))?.into_inner();
    let removed = StoredImage {
        image_id: removed.image_id,
        references: removed.references,
    };
    stored(&removed, output)
}

async fn check(mut daemon: Daemon, asked: CheckImagesRequest, output: Output) -> Result<ExitCode> {
    let repair = asked.repair;
    let answer = daemon.check_images(asked).await;
    let mut steps = answer.map_err(|e| refused(&e))?.into_inner();
    let mut summary = CheckSummary::default();
    while let Some(step) = steps.message().await.map_err(|e| refused(&e))? {
        match step.event {
            Some(CheckEvent::Finding(finding)) => found(&finding, output)?,
            Some(CheckEvent::Summary(end)) => summary = end,
            None => {}
        }
    }
    summed(summary, output)?;
    let wrong = if repair {
        summary.unrepaired
    } else {
        summary.findings
    };
    Ok(match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn found(finding: &Finding, output: Output) -> Result<()> {
    let fault = finding
        .fault()
        .as_str_name()
        .trim_start_matches("FAULT_")
        .to_lowercase();
    match output {
        Output::Table => {
            let what = match finding.digest.is_empty() {
                true => &finding.image_id,
                false => &finding.digest,
            };
            let path = match finding.path.is_empty() {
                true => String::new(),
                false => format!(" /{}", finding.path),
            };
            print(&format!(
                "{fault}: {}{path}: {}",
                short(what),
                finding.detail
            ))
        }
        Output::Json => print(
            &json!({
                "fault": fault,
                "imageID": finding.image_id,
                "digest": finding.digest,
                "path": finding.path,
                "detail": finding.detail,
            })
            .to_string(),
        ),
    }
}

fn summed(summary: CheckSummary, output: Output) -> Result<()> {
    let CheckSummary {
        images,
        layers,
        bytes: read,
        findings,
        repaired,
        unrepaired,
    } = summary;
    match output {
        Output::Table => {
            let mended = match repaired + unrepaired {
                0 => String::new(),
                _ => format!(", {repaired} images repaired, {unrepaired} not"),
            };
            print(&format!(
                "{images} images and {layers} layers checked, {} read, {findings} findings{mended}",
                bytes(read)
            ))
        }
        Output::Json => print(
            &json!({
                "images": images, "layers": layers, "bytes": read, "findings": findings,
                "repaired": repaired, "unrepaired": unrepaired,
            })
            .to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_line_for_each_tag() {
        let image = Image {
            id: format!("sha256:{}", "a".repeat(64)),
            tags: vec!["a:1".into(), "a:2".into()],
            size: 1 << 20,
            ..Default::default()
        };
        let text = image_table(&[image]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("a:2    aaaaaaaaaaaa  1.0 MiB\n"), "{text}");
    }
}
