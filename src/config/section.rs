//! The table of the configuration: each section is declared once, with `section!`, and from that one declaration come the
//! typed raw struct, the strict reader (`check`), the effective document (`redact`), the JSON Schema and the reference page.
//!
//! Invariant: a key's name, type, default, range and meaning stand in one place only. Nothing here does I/O; `take` never
//! fails: of a value that `check` refused it takes the default, so that later checks can still say what else is wrong.

use serde_json::{Map, Value};

use crate::base::secret::Secret;

/// What a value has to look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number, 0 or more.
    Int,
    /// A text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text, `{"env"}` or `{"file"}`.
    Secret,
    /// Any JSON: what a later version reads.
    Free,
    /// A list of one shape.
    List(&'static Shape),
    /// An object with names of the user's own.
    Map(&'static Shape),
    /// An object with keys of ours.
    Section(&'static Section),
    /// An object whose `type` says which keys it has.
    Variants(&'static Variants),
}

/// An object with known keys.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is for.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// An object whose `type` decides on its keys.
#[derive(Debug)]
pub(super) struct Variants {
    /// What it is for.
    pub about: &'static str,
    /// The keys of all types, `type` itself apart.
    pub common: &'static Section,
    /// The types with their own keys.
    pub types: &'static [(&'static str, &'static Section)],
}

impl Variants {
    /// The section of the type that `value` names.
    pub fn of(&self, value: &Value) -> Option<&'static Section> {
        let name = value.get("type")?.as_str()?;
        self.types.iter().find(|(n, _)| *n == name).map(|(_, section)| *section)
    }
}

/// What stands for a key that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    /// Nothing can: it has to be written.
    Required,
    /// `null`: not set.
    Unset,
    /// This truth.
    Bool(bool),
    /// This number.
    Int(u64),
    /// This text.
    Text(&'static str),
    /// `[]`
    EmptyList,
    /// `{}`; a section then consists of its own defaults.
    EmptyObject,
}

impl Preset {
    /// As JSON; `null` for what is required or not set.
    pub fn json(self) -> Value {
        match self {
            Preset::Required | Preset::Unset => Value::Null,
            Preset::Bool(b) => b.into(),
            Preset::Int(n) => n.into(),
            Preset::Text(t) => t.into(),
            Preset::EmptyList => Value::Array(Vec::new()),
            Preset::EmptyObject => Value::Object(Map::new()),
        }
    }
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name in the document.
    pub name: &'static str,
    /// What it means, in one line.
    pub about: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// What stands for it where it is not written.
    pub preset: Preset,
    /// Bounds, both included: of a number its value, of a text its bytes, of a list or map its entries.
    pub range: (u64, u64),
    /// Whether `null` may be written.
    pub nullable: bool,
    /// Whether a change of it needs a restart.
    pub restart: bool,
    /// Whether the names of its entries are names of ours (`[A-Za-z0-9_.-]`, at most 64).
    pub names: bool,
}

/// A key with its default; the macro adds its meaning and its shape.
pub(super) const fn key(name: &'static str, preset: Preset) -> Key {
    Key { name, about: "", shape: Shape::Free, preset, range: (0, 1000), nullable: false, restart: false, names: false }
}

impl Key {
    /// Bounds, both included; see [`Key::range`].
    pub const fn range(mut self, min: u64, max: u64) -> Key {
        self.range = (min, max);
        self
    }

    /// A change of it needs a restart.
    pub const fn restart(mut self) -> Key {
        self.restart = true;
        self
    }

    /// Its entries bear names of ours.
    pub const fn names(mut self) -> Key {
        self.names = true;
        self
    }

    /// For the macro.
    pub const fn of(mut self, about: &'static str, shape: Shape, nullable: bool) -> Key {
        self.about = about;
        self.shape = shape;
        self.nullable = nullable;
        self
    }

    /// An entry of this list or map, as a key of that shape.
    pub const fn entry(self, shape: Shape) -> Key {
        let range = if matches!(shape, Shape::Text) { (1, 1024) } else { (0, 1000) };
        Key { shape, preset: Preset::Required, range, nullable: false, names: false, ..self }
    }

    /// `about` without the blanks that doc comments begin with.
    pub fn meaning(&self) -> &'static str {
        self.about.trim()
    }

    /// What is written in `object` for this key, or its default.
    fn value(&self, object: &Value) -> Value {
        match object.get(self.name) {
            Some(Value::Null) if self.nullable => Value::Null,
            Some(written) if fits(&self.shape, written) => written.clone(),
            _ => self.preset.json(),
        }
    }
}

/// Whether `value` has the outer form of `shape`.
pub(super) fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Bool => value.is_boolean(),
        Shape::Int => value.is_u64(),
        Shape::Text => value.is_string(),
        Shape::Choice(names) => value.as_str().is_some_and(|v| names.contains(&v)),
        Shape::Secret => value.is_string() || value.is_object(),
        Shape::Free => true,
        Shape::List(_) => value.is_array(),
        Shape::Map(_) | Shape::Section(_) | Shape::Variants(_) => value.is_object(),
    }
}

/// A type that a key can have.
pub(super) trait Kind: Sized {
    /// What its value looks like in a document.
    const SHAPE: Shape;
    /// Whether `null` is one of its values.
    const NULLABLE: bool = false;
    /// Of a value that was checked; of any other one something harmless.
    fn take(value: &Value) -> Self;
}

impl Kind for bool {
    const SHAPE: Shape = Shape::Bool;
    fn take(value: &Value) -> Self {
        value.as_bool().unwrap_or_default()
    }
}

impl Kind for u64 {
    const SHAPE: Shape = Shape::Int;
    fn take(value: &Value) -> Self {
        value.as_u64().unwrap_or_default()
    }
}

impl Kind for String {
    const SHAPE: Shape = Shape::Text;
    fn take(value: &Value) -> Self {
        value.as_str().unwrap_or_default().to_string()
    }
}

/// Any JSON.
impl Kind for Value {
    const SHAPE: Shape = Shape::Free;
    const NULLABLE: bool = true;
    fn take(value: &Value) -> Self {
        value.clone()
    }
}

impl<T: Kind> Kind for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const NULLABLE: bool = true;
    fn take(value: &Value) -> Self {
        (!value.is_null()).then(|| T::take(value))
    }
}

impl<T: Kind> Kind for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);
    fn take(value: &Value) -> Self {
        value.as_array().map(|list| list.iter().map(T::take).collect()).unwrap_or_default()
    }
}

/// Entries under names of the user's own, in the order of the document.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is an entry of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }
}

impl<T: Kind> Kind for Named<T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
    fn take(value: &Value) -> Self {
        Named(value.as_object().map(|o| o.iter().map(|(n, v)| (n.clone(), T::take(v))).collect()).unwrap_or_default())
    }
}

/// A secret as it was written.
#[derive(Clone, Debug)]
pub(super) enum RawSecret {
    /// The text itself.
    Literal(Secret),
    /// `{"env": "NAME"}`
    Env(String),
    /// `{"file": "PATH"}`
    File(String),
}

impl Kind for RawSecret {
    const SHAPE: Shape = Shape::Secret;
    fn take(value: &Value) -> Self {
        let named = |key| value.get(key).and_then(Value::as_str).map(str::to_string);
        match (named("env"), named("file")) {
            (Some(name), _) => RawSecret::Env(name),
            (None, Some(path)) => RawSecret::File(path),
            (None, None) => RawSecret::Literal(Secret::new(value.as_str().unwrap_or_default())),
        }
    }
}

/// The next field of a section: for the macro, whose fields stand in the order of its keys.
pub(super) fn take_next<T: Kind>(keys: &mut std::slice::Iter<'_, Key>, object: &Value) -> T {
    T::take(&keys.next().map_or(Value::Null, |key| key.value(object)))
}

/// Declares a section: `/// what it is` `Name { /// what the key means` `field: Type = key("name", default)…; }`.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident { $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $key:expr; )* }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        #[allow(dead_code)] // what this version cannot run is read all the same
        pub(in crate::config) struct $name { $( $(#[doc = $doc])+ pub $field: $type, )* }

        impl $name {
            const KEYS: &'static [Key] =
                &[$( $key.of(concat!($($doc),+), <$type as Kind>::SHAPE, <$type as Kind>::NULLABLE) ),*];
            /// Its table.
            pub const SECTION: &'static Section = &Section { about: concat!($($about),+), keys: Self::KEYS };
        }

        impl Kind for $name {
            const SHAPE: Shape = Shape::Section(Self::SECTION);
            #[allow(unused_mut, unused_variables)] // a section may have no keys
            fn take(value: &Value) -> Self {
                let mut keys = Self::KEYS.iter();
                $name { $( $field: take_next(&mut keys, value) ),* }
            }
        }
    };
}

/// Declares a text with a few possible values: `/// what it is` `Name { Variant = "text", … }`.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident { $first:ident = $first_text:literal $(, $variant:ident = $text:literal)* }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub(in crate::config) enum $name { $first $(, $variant)* }

        impl Kind for $name {
            const SHAPE: Shape = Shape::Choice(&[$first_text $(, $text)*]);
            fn take(value: &Value) -> Self {
                match value.as_str() {
                    $( Some($text) => $name::$variant, )*
                    _ => $name::$first,
                }
            }
        }
    };
}

/// Declares an object whose `type` decides on its keys: `/// what it is` `Name(Common) as Of { Variant(Section) = "type", … }`.
macro_rules! variants {
    ($(#[doc = $about:literal])+ $name:ident($common:ty) as $of:ident { $( $variant:ident($section:ty) = $text:literal ),+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(in crate::config) struct $name {
            /// The keys of all types.
            pub common: $common,
            /// The keys of its own type; `None` where the type is unknown, which is a problem already.
            pub of: Option<$of>,
        }

        /// The types.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, dead_code)]
        pub(in crate::config) enum $of { $( $variant($section) ),+ }

        impl $name {
            const VARIANTS: &'static Variants = &Variants {
                about: concat!($($about),+),
                common: <$common>::SECTION,
                types: &[$( ($text, <$section>::SECTION) ),+],
            };
        }

        impl $of {
            /// The name of the type.
            #[allow(dead_code)]
            pub fn name(&self) -> &'static str {
                match self { $( $of::$variant(_) => $text ),+ }
            }
        }

        impl Kind for $name {
            const SHAPE: Shape = Shape::Variants(Self::VARIANTS);
            fn take(value: &Value) -> Self {
                let of = match value.get("type").and_then(Value::as_str) {
                    $( Some($text) => Some($of::$variant(Kind::take(value))), )+
                    _ => None,
                };
                $name { common: Kind::take(value), of }
            }
        }
    };
}

pub(super) use {choice, section, variants};
