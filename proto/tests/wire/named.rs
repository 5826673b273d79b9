//! A message as fields by name, in the form that k8s-cri's types have in serde. Bytes alone cannot
//! show that two fields of one type have changed places; names can.

use std::borrow::Cow;

use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};
use serde_json::{Map, Value as Json, json};

use crate::known;

/// The message without the fields that k8s-cri lacks.
pub fn named(message: &DynamicMessage) -> Json {
    let mut fields = Map::new();
    for field in message
        .descriptor()
        .fields()
        .filter(|field| !known::is_newer(field))
    {
        fields.insert(snake_case(field.name()), field_value(message, &field));
    }
    Json::Object(fields)
}

/// An absent message is null, and any other absent field its default.
fn field_value(message: &DynamicMessage, field: &FieldDescriptor) -> Json {
    if field.supports_presence() && !message.has_field(field) {
        return Json::Null;
    }
    match message.get_field(field) {
        Cow::Borrowed(Value::Bytes(bytes)) if known::is_text_once(field) => text(bytes),
        Cow::Owned(Value::Bytes(bytes)) if known::is_text_once(field) => text(&bytes),
        value => json_of(&value),
    }
}

fn text(bytes: &[u8]) -> Json {
    json!(std::str::from_utf8(bytes).unwrap())
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::I32(value) | Value::EnumNumber(value) => json!(value),
        Value::I64(value) => json!(value),
        Value::U32(value) => json!(value),
        Value::U64(value) => json!(value),
        Value::F32(value) => json!(value),
        Value::F64(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Bytes(value) => json!(value.to_vec()),
        Value::Message(message) => named(message),
        Value::List(values) => values.iter().map(json_of).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (name(key), json_of(value)))
            .collect(),
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::String(key) => key.clone(),
        key => panic!("the CRI had no map with the key {key:?} so far"),
    }
}

/// The name that prost gives to a field: `uidMappings` is `uid_mappings`, `CDI_devices` is
/// `cdi_devices`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for letter in name.chars() {
        if after_lower && letter.is_ascii_uppercase() {
            snake.push('_');
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The message as k8s-cri can carry it: without the fields that it lacks, at any depth.
pub fn without_newer(message: &DynamicMessage) -> DynamicMessage {
    let mut kept = DynamicMessage::new(message.descriptor());
    for (field, value) in message
        .fields()
        .filter(|(field, _)| !known::is_newer(field))
    {
        kept.set_field(&field, kept_value(value));
    }
    kept
}

fn kept_value(value: &Value) -> Value {
    match value {
        Value::Message(message) => Value::Message(without_newer(message)),
        Value::List(values) => Value::List(values.iter().map(kept_value).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), kept_value(value)))
                .collect(),
        ),
        value => value.clone(),
    }
}
