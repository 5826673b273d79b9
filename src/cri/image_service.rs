//! The ImageService: each RPC decodes, calls the engine, and encodes.

use super::parts::{Parts, in_parts};
use super::request::image::named;
use super::trace::{Object, about};
use crate::engine::{Engine, known_handler};
use corten_proto::runtime::v1;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait};

/// The service over an engine.
pub struct ImagesOf {
    engine: Arc<Engine>,
}

type Answer<T> = Result<Response<T>, Status>;

impl ImagesOf {
    /// Over this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let wanted = filter.and_then(|filter| filter.image).unwrap_or_default();
        known_handler(&wanted.runtime_handler)?;
        let name = wanted.image;
        let found = self.engine.images().list(Some(&name))?;
        Ok(found.iter().map(|image| image.as_ref().into()).collect())
    }
}

fn image_named(spec: Option<v1::ImageSpec>) -> Result<String, Status> {
    if let Some(spec) = &spec {
        known_handler(&spec.runtime_handler)?;
    }
    let name = named(spec)?;
    about(Object::Image, &name);
    Ok(name)
}

#[async_trait]
impl v1::image_service_server::ImageService for ImagesOf {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let images = self.list(request.into_inner().filter)?;
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    type StreamImagesStream = Parts<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let items = self.list(request.into_inner().filter)?;
        Ok(in_parts(items, |images| v1::StreamImagesResponse {
            images,
        }))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let asked = request.into_inner();
        let images = self.engine.images();
        let Some(found) = images.status(&image_named(asked.image)?)? else {
            return Ok(Response::new(v1::ImageStatusResponse::default()));
        };
        let info = match asked.verbose {
            true => HashMap::from([(
                "info".to_owned(),
                images.config_json(&found.record.id).await?,
            )]),
            false => HashMap::new(),
        };
        Ok(Response::new(v1::ImageStatusResponse {
            image: Some(found.as_ref().into()),
            info,
        }))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let asked = request.into_inner();
        let image = image_named(asked.image)?;
        let credentials = asked.auth.unwrap_or_default().try_into()?;
        let nobody = Arc::new(|_| {});
        let id = self
            .engine
            .images()
            .pull_named(&image, credentials, nobody)
            .await?;
        Ok(Response::new(v1::PullImageResponse {
            image_ref: id.to_string(),
        }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = image_named(request.into_inner().image)?;
        self.engine.images().remove(&name).await?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        let usage = self.engine.images().fs_info();
        let containers = self.engine.container_fs_info().await?;
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![(&usage).into()],
            container_filesystems: containers.iter().map(Into::into).collect(),
        }))
    }
}
