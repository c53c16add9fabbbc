//! For tests of tools: a context to call them in.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Context, Courier, Tool, Who};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::threads::Threads;
use crate::domain::Standing;
use crate::store::sqlite::SqliteStore;

/// Nobody is to be written to.
struct Nobody;

impl Courier for Nobody {
    fn send(&self, _: &str, _: Option<&str>, _: &str, _: &str) -> Result<String> {
        panic!("this tool sends nothing")
    }
}

/// The surroundings of a call, by the system's clock.
pub struct Around {
    pub clock: Clock,
    pub cancel: Cancel,
    /// How long a turn has.
    pub turn: Duration,
    pub store: Arc<SqliteStore>,
}

impl Around {
    pub fn new() -> Self {
        let (clock, threads) = (Clock::system(), Threads::new());
        let store = SqliteStore::memory(clock.clone(), &threads).unwrap();
        Around { clock, cancel: Cancel::new(), turn: Duration::from_secs(60), store }
    }

    /// Calls a tool with these arguments.
    pub fn call(&self, tool: &dyn Tool, arguments: Value) -> Result<String> {
        let who = Who { agent: "main".into(), channel: "door".into(), user_id: "ana".into(), standing: Standing::User };
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let context = Context {
            who: &who,
            session_id: "ses_1",
            message_id: "msg_1",
            key: "key_1".into(),
            deadline: self.clock.mono() + self.turn,
            cancel: &self.cancel,
            clock: &self.clock,
            store: &*self.store,
            courier: &Nobody,
        };
        tool.run(&arguments, &context)
    }
}

/// The `tools` of an OpenAI request, as one text.
pub fn wire(tools: &[&dyn Tool]) -> String {
    let list = tools.iter().map(|tool| {
        let spec = &tool.about().spec;
        let function = serde_json::json!({"name": spec.wire, "description": spec.description, "parameters": spec.schema});
        serde_json::json!({"type": "function", "function": function})
    });
    Value::Array(list.collect()).to_string()
}
