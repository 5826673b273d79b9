//! `corten image inspect`.

use super::{Daemon, image_json};
use crate::cli::ask::{Output, print, refused};
use crate::cli::table::{bytes, short, table};
use crate::error::{Context, Kind, Result};
use corten_proto::admin::v1::{InspectImageRequest, InspectImageResponse, Layer};
use serde_json::{Value, json};

/// Shows all that is known of an image.
///
/// # Errors
/// Where there is none of that name, or the daemon says what is no JSON.
pub(super) async fn inspect(mut daemon: Daemon, image: String, output: Output) -> Result<()> {
    let answer = daemon.inspect_image(InspectImageRequest { image }).await;
    let image = answer.map_err(|e| refused(&e))?.into_inner();
    let config: Value = serde_json::from_str(&image.config).context(Kind::Internal, || {
        "the image's config is no JSON".to_owned()
    })?;
    match output {
        Output::Table => print(&text(&image, &config)),
        Output::Json => print(&format!("{:#}", whole(&image, &config))),
    }
}

fn whole(image: &InspectImageResponse, config: &Value) -> Value {
    let mut told = image_json(&image.image.clone().unwrap_or_default());
    told["manifest"] = image.manifest.clone().into();
    told["layers"] = image.layers.iter().map(layer_json).collect();
    told["config"] = config.clone();
    told
}

fn layer_json(layer: &Layer) -> Value {
    json!({
        "chainID": layer.chain_id,
        "diffID": layer.diff_id,
        "size": layer.size,
        "inodes": layer.inodes,
        "durable": layer.durable,
    })
}

fn text(answer: &InspectImageResponse, config: &Value) -> String {
    let image = answer.image.clone().unwrap_or_default();
    let mut rows = vec![
        ("id", image.id.clone()),
        ("manifest", answer.manifest.clone()),
        ("size", bytes(image.size)),
    ];
    if !image.artifact_type.is_empty() {
        rows.push(("artifact", image.artifact_type.clone()));
    }
    rows.extend(image.tags.iter().map(|tag| ("tag", tag.clone())));
    rows.extend(image.digests.iter().map(|name| ("digest", name.clone())));
    rows.extend(answer.layers.iter().map(|layer| ("layer", of_layer(layer))));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(key, value)| vec![key.to_owned(), value])
        .collect();
    // Of an artifact there is only the manifest.
    let shown = match image.artifact_type.is_empty() {
        true => &config["config"],
        false => config,
    };
    format!("{}{shown:#}", table(&rows))
}

fn of_layer(layer: &Layer) -> String {
    let lasts = if layer.durable {
        ""
    } else {
        ", not on disk yet"
    };
    let (name, size) = (short(&layer.chain_id), bytes(layer.size));
    format!("{name}  {size}, {} inodes{lasts}", layer.inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_each_layer_and_the_config() {
        let layer = Layer {
            chain_id: format!("sha256:{}", "a".repeat(64)),
            size: 1 << 20,
            inodes: 7,
            ..Default::default()
        };
        let answer = InspectImageResponse {
            layers: vec![layer],
            ..Default::default()
        };
        let text = text(&answer, &json!({"config": {"User": "me"}}));
        let line = "aaaaaaaaaaaa  1.0 MiB, 7 inodes, not on disk yet\n";
        assert!(
            text.contains(line) && text.contains("\"User\": \"me\""),
            "{text}"
        );
    }
}
