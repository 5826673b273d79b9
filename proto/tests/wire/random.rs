//! Random messages, made from a descriptor. Every value that is set differs from its type's default,
//! as proto3 does not send defaults: what is set can be lost, and a loss is seen.

use std::collections::HashMap;

use fastrand::Rng;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::known;

/// Fills messages. The CRI has no message that contains itself, so the depth has an end.
pub struct Filler {
    rng: Rng,
    skipped: f64,
}

impl Filler {
    /// Sets every field.
    pub fn every(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            skipped: 0.0,
        }
    }

    /// Leaves out a third of the fields.
    pub fn some(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            skipped: 1.0 / 3.0,
        }
    }

    /// A random message.
    pub fn message(&mut self, descriptor: MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if self.rng.f64() >= self.skipped {
                message.set_field(&field, self.field(&field));
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            Value::Map(self.map(field))
        } else if field.is_list() {
            let length = self.rng.usize(1..=3);
            Value::List((0..length).map(|_| self.value(field)).collect())
        } else {
            self.value(field)
        }
    }

    fn map(&mut self, field: &FieldDescriptor) -> HashMap<MapKey, Value> {
        let Kind::Message(entry) = field.kind() else {
            panic!("{field:?} has no entries")
        };
        let value = entry.map_entry_value_field();
        let length = self.rng.usize(1..=3);
        (0..length)
            .map(|_| (MapKey::String(self.text()), self.value(&value)))
            .collect()
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(descriptor) => Value::Message(self.message(descriptor)),
            Kind::Enum(values) => {
                let numbers: Vec<i32> = values.values().map(|value| value.number()).collect();
                Value::EnumNumber(numbers[self.rng.usize(1..numbers.len())])
            }
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.bytes(field).into()),
            Kind::Bool => Value::Bool(true),
            Kind::Double => Value::F64(self.rng.f64() * 100.0 + f64::MIN_POSITIVE),
            Kind::Int32 => Value::I32(self.signed(32) as i32),
            Kind::Int64 => Value::I64(self.signed(64)),
            Kind::Uint32 => Value::U32(self.unsigned(32) as u32),
            Kind::Uint64 => Value::U64(self.unsigned(64)),
            kind => panic!("the CRI had no {kind:?} so far: say how to fill it"),
        }
    }

    /// Ends of the range as often as anything else: these tell the widths and signs apart.
    fn signed(&mut self, bits: u32) -> i64 {
        let (least, most) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
        let numbers = [
            least,
            -1,
            1,
            most,
            self.rng.i64(1..=most),
            self.rng.i64(least..=-1),
        ];
        numbers[self.rng.usize(..numbers.len())]
    }

    fn unsigned(&mut self, bits: u32) -> u64 {
        let most = u64::MAX >> (64 - bits);
        let numbers = [1, most, self.rng.u64(1..=most)];
        numbers[self.rng.usize(..numbers.len())]
    }

    fn text(&mut self) -> String {
        let length = self.rng.usize(1..=12);
        (0..length).map(|_| self.rng.char(..)).collect()
    }

    fn bytes(&mut self, field: &FieldDescriptor) -> Vec<u8> {
        if known::is_text_once(field) {
            return self.text().into_bytes();
        }
        let length = self.rng.usize(1..=200);
        (0..length).map(|_| self.rng.u8(..)).collect()
    }
}
