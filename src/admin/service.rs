//! The Admin service: each RPC decodes, calls, and encodes.

use super::encode;
use super::watch::{Steps, watch};
use crate::config::{Live, show};
use crate::engine::{Engine, Finding};
use crate::error::{Error, Kind};
use crate::id::ImageRef;
use crate::log::LogFilter;
use crate::model::container::ContainerFilter;
use crate::model::credentials::{Credentials, Secret};
use crate::model::host::HostFacts;
use crate::model::image::Progress;
use crate::model::sandbox::SandboxFilter;
use corten_proto::admin::v1;
use corten_proto::admin::v1::admin_server::{Admin, AdminServer};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// What the service tells about.
pub struct About {
    /// The objects.
    pub engine: Arc<Engine>,
    /// The configuration in force.
    pub live: Arc<Live>,
    /// The log.
    pub log: Arc<LogFilter>,
    /// The node.
    pub host: HostFacts,
}

/// The service.
pub struct Service {
    about: About,
    started: Instant,
    started_at: SystemTime,
}

/// Parts of an export that wait for their reader, of 256 KiB at most.
const WAITING: usize = 4;

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// About a daemon that starts now.
    #[must_use]
    pub fn new(about: About) -> Self {
        Self {
            about,
            started: Instant::now(),
            started_at: SystemTime::now(),
        }
    }

    /// The service, added to others of the same server.
    #[must_use]
    pub fn beside(self, routes: Routes) -> Routes {
        routes.add_service(AdminServer::new(self))
    }

    fn daemon(&self) -> v1::Daemon {
        let config = self.about.live.get();
        v1::Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: encode::nanoseconds(self.started_at),
            uptime: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            root: config.root.display().to_string(),
            state: config.state.display().to_string(),
            endpoint: format!("unix://{}", config.endpoint.display()),
        }
    }

    fn counts(&self) -> Result<v1::Counts, Status> {
        let engine = &self.about.engine;
        Ok(v1::Counts {
            sandboxes: encode::sandboxes(&engine.list_pod_sandbox(&SandboxFilter::default())),
            containers: encode::containers(&engine.list_containers(&ContainerFilter::default())),
            images: encode::images(engine.images().list(None)?.len()),
        })
    }
}

#[async_trait]
impl Admin for Service {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let config = self.about.live.get();
        let node = self.about.engine.status();
        Ok(Response::new(v1::StatusResponse {
            daemon: Some(self.daemon()),
            cgroup: Some(encode::cgroup(
                self.about.engine.cgroup_driver(),
                self.about.host.cgroups,
            )),
            host: encode::host(&self.about.host),
            conditions: vec![
                encode::condition("RuntimeReady", &node.runtime),
                encode::condition("NetworkReady", &node.network),
                encode::condition("CgroupDriverMatches", &node.cgroup_driver),
            ],
            counts: Some(self.counts()?),
            config_files: config
                .sources
                .iter()
                .map(|f| f.display().to_string())
                .collect(),
        }))
    }

    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let images = self.about.engine.images().list(None)?;
        let images = images.iter().map(|image| image.as_ref().into()).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn inspect_image(
        &self,
        request: Request<v1::InspectImageRequest>,
    ) -> Answer<v1::InspectImageResponse> {
        let name = request.into_inner().image;
        let inspected = self.about.engine.images().inspect(&name).await?;
        Ok(Response::new((&inspected).into()))
    }

    type PullImageStream = Steps<v1::PullImageProgress>;

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<Self::PullImageStream> {
        let asked = request.into_inner();
        let image = asked.reference;
        let credentials = credentials(asked.auth.unwrap_or_default());
        let images = Arc::clone(self.about.engine.images());
        Ok(watch(|steps| async move {
            let tell = steps.clone();
            let progress = Arc::new(move |p: Progress| tell.send((&p).into()));
            let id = images.pull_named(&image, credentials, progress).await?;
            if let Some(stored) = images.status(&id.to_string())? {
                steps.send(encode::pulled(&stored));
            }
            Ok(())
        }))
    }

    async fn explain_pull(
        &self,
        request: Request<v1::ExplainPullRequest>,
    ) -> Answer<v1::ExplainPullResponse> {
        let name = request.into_inner().reference;
        let explained = self.about.engine.images().explain_pull(&name)?;
        let routes = explained.iter().flat_map(|(image, routes)| {
            routes.iter().map(move |route| encode::route(image, route))
        });
        Ok(Response::new(v1::ExplainPullResponse {
            routes: routes.collect(),
        }))
    }

    type ImportImageStream = Steps<v1::ImportImageProgress>;

    async fn import_image(
        &self,
        request: Request<v1::ImportImageRequest>,
    ) -> Answer<Self::ImportImageStream> {
        let asked = request.into_inner();
        let path = absolute(&asked.path)?;
        let names = asked.references.iter().map(|name| name.parse());
        let names = names.collect::<Result<Vec<ImageRef>, Error>>()?;
        let images = Arc::clone(self.about.engine.images());
        Ok(watch(|steps| async move {
            let tell = steps.clone();
            let progress = Arc::new(move |p: Progress| tell.send((&p).into()));
            for image in images.import(&path, &names, progress).await? {
                steps.send(encode::imported(&image));
            }
            Ok(())
        }))
    }

    type ImportArchiveStream = Steps<v1::ImportImageProgress>;

    async fn import_archive(
        &self,
        request: Request<Streaming<v1::ImportArchiveRequest>>,
    ) -> Answer<Self::ImportArchiveStream> {
        let images = Arc::clone(self.about.engine.images());
        let mut parts = request.into_inner();
        let (archive, names) = received(&mut parts, images.scratch().await?).await?;
        Ok(watch(|steps| async move {
            let tell = steps.clone();
            let progress = Arc::new(move |p: Progress| tell.send((&p).into()));
            for image in images.import_sent(archive, &names, progress).await? {
                steps.send(encode::imported(&image));
            }
            Ok(())
        }))
    }

    type ExportImageStream = ReceiverStream<Result<v1::ExportImagePart, Status>>;

    async fn export_image(
        &self,
        request: Request<v1::ExportImageRequest>,
    ) -> Answer<Self::ExportImageStream> {
        let asked = request.into_inner();
        let form = encode::archive_form(asked.form());
        let export = self
            .about
            .engine
            .images()
            .export(&asked.images, form)
            .await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        // Who reads slowly slows this thread, and nobody else.
        tokio::task::spawn_blocking(move || {
            let given = export.write(|step| sender.blocking_send(Ok(step.into())).is_ok());
            if let Err(error) = given {
                let _ = sender.blocking_send(Err(error.into()));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = request.into_inner().image;
        let removed = self.about.engine.images().remove(&name).await?;
        let removed = removed.ok_or_else(|| Error::not_found(format!("no image {name}")))?;
        Ok(Response::new(v1::RemoveImageResponse {
            image_id: removed.id.to_string(),
            references: removed.references,
        }))
    }

    type CheckImagesStream = Steps<v1::CheckImagesResponse>;

    async fn check_images(
        &self,
        request: Request<v1::CheckImagesRequest>,
    ) -> Answer<Self::CheckImagesStream> {
        let asked = request.into_inner();
        let names = asked.images;
        let images = Arc::clone(self.about.engine.images());
        Ok(watch(move |steps| async move {
            let tell = steps.clone();
            let found = Arc::new(move |finding: &Finding| tell.send(finding.into()));
            let report = match asked.repair {
                true => images.repair(&names, found).await?,
                false => images.check_telling(&names, found).await?,
            };
            steps.send((&report).into());
            Ok(())
        }))
    }

    async fn config(&self, _: Request<v1::ConfigRequest>) -> Answer<v1::ConfigResponse> {
        let config = self.about.live.get();
        Ok(Response::new(v1::ConfigResponse {
            toml: show::to_toml(&config.settings),
            origins: encode::origins(&config.settings),
        }))
    }

    async fn set_log_level(
        &self,
        request: Request<v1::SetLogLevelRequest>,
    ) -> Answer<v1::SetLogLevelResponse> {
        let previous = self.about.log.set(&request.into_inner().filter)?;
        Ok(Response::new(v1::SetLogLevelResponse { previous }))
    }
}

/// Takes an archive that is sent, with the names for its image.
async fn received(
    parts: &mut Streaming<v1::ImportArchiveRequest>,
    into: std::fs::File,
) -> Result<(std::fs::File, Vec<ImageRef>), Status> {
    let mut file = tokio::fs::File::from_std(into);
    let mut names = Vec::new();
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            ErrorKind::StorageFull => Kind::ResourceExhausted,
            _ => Kind::Internal,
        };
        Error::new(kind, "keep what was sent").caused_by(error)
    };
    while let Some(part) = parts.message().await? {
        for name in &part.references {
            names.push(name.parse::<ImageRef>()?);
        }
        file.write_all(&part.data).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok((file.into_std().await, names))
}

fn absolute(path: &str) -> Result<PathBuf, Status> {
    match Path::new(path).is_absolute() {
        true => Ok(PathBuf::from(path)),
        false => Err(Error::invalid(format!("path: {path:?} must be absolute")).into()),
    }
}

fn credentials(auth: v1::RegistryAuth) -> Credentials {
    let given = |text: &str| !text.is_empty();
    let secret = if given(&auth.registry_token) {
        Secret::RegistryToken(auth.registry_token)
    } else if given(&auth.identity_token) {
        Secret::IdentityToken(auth.identity_token)
    } else if given(&auth.username) {
        Secret::Password(auth.username, auth.password)
    } else {
        Secret::Anonymous
    };
    Credentials::new(secret, "")
}
