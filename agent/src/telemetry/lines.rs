//! One line of each event: its own fields and those of the spans that it happens in, for a person, as JSON or for the
//! journal.

use super::{
    journal,
    sentence::{LogSentence, printable},
};
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use std::{
    fmt::{Debug, Write as _},
    io::Write,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// Names and values of one event or span, in their order.
#[derive(Clone, Default)]
pub(super) struct LogFields(Vec<(&'static str, Value)>);

impl LogFields {
    /// The event's own fields, then those of its spans from the innermost outward. Of two with one name the nearer wins.
    fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Self::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Self(outer)) = span.extensions().get() {
                for (name, value) in outer {
                    if fields.get(name).is_none() {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        fields
    }

    fn get(&self, wanted: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        fields.find_map(|(name, value)| (*name == wanted).then_some(value))
    }

    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, old)) => *old = value,
            None => self.0.push((field.name(), value)),
        }
    }

    /// All fields, without those by which the `log` crate names the place of a line.
    fn shown(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let fields = self.0.iter().map(|(name, value)| (*name, value));
        fields.filter(|(name, _)| !name.starts_with("log."))
    }

    /// The same fields as text, each on one line and bounded.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.shown().map(|(name, value)| (name, text(value)))
    }

    /// The module that logged it. Events of the `log` crate all have the target "log", and the true one in a field.
    pub(super) fn target(&self, metadata: &Metadata<'_>) -> String {
        let logs = self.get("log.target");
        logs.map_or_else(|| metadata.target().to_owned(), text)
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    }
}

impl Visit for LogFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) enum LineFormat {
    Human { color: bool },
    Json,
    Journal,
}

impl LineFormat {
    fn line(self, metadata: &Metadata<'_>, fields: &LogFields) -> String {
        match self {
            Self::Human { color } => human(metadata, fields, color),
            Self::Json => json(metadata, fields),
            Self::Journal => journal::entry(metadata, fields),
        }
    }
}

fn human(metadata: &Metadata<'_>, fields: &LogFields, color: bool) -> String {
    let (level, target) = (metadata.level(), fields.target(metadata));
    let (now, sentence) = (now(), LogSentence::of(fields));
    match color {
        false => format!("{now} {level:>5} {target}: {sentence}\n"),
        true => {
            let hue = match *level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                Level::DEBUG => 34,
                Level::TRACE => 35,
            };
            format!(
                "\x1b[2m{now}\x1b[0m \x1b[{hue}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m {sentence}\n"
            )
        }
    }
}

fn json(metadata: &Metadata<'_>, fields: &LogFields) -> String {
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        map.serialize_entry("timestamp", &now())?;
        map.serialize_entry("level", metadata.level().as_str())?;
        for (name, value) in fields.shown() {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("target", &fields.target(metadata))?;
        map.end()
    });
    // Strings and numbers into memory: it cannot fail.
    debug_assert!(written.is_ok());
    let mut line = String::from_utf8_lossy(&line).into_owned();
    line.push('\n');
    line
}

/// RFC 3339, UTC, with microseconds.
fn now() -> String {
    let mut now = String::new();
    if SystemTime.format_time(&mut Writer::new(&mut now)).is_err() {
        let _ = now.write_str("<unknown time>");
    }
    now
}

/// Gives each event to `queue`, as a line in one write.
pub(super) struct LineLayer<Queue> {
    queue: Queue,
    format: LineFormat,
}

impl<Queue> LineLayer<Queue> {
    pub(super) fn new(queue: Queue, format: LineFormat) -> Self {
        Self { queue, format }
    }
}

impl<S, Queue> Layer<S> for LineLayer<Queue>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    Queue: Write + Clone + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = LogFields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<LogFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = LogFields::of(event, &context);
        let line = self.format.line(event.metadata(), &fields);
        // The queue takes it, or the line is lost: there is no other place to say so.
        let _ = self.queue.clone().write_all(line.as_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parking_lot::Mutex;
    use std::{io, sync::Arc};
    use tracing_subscriber::layer::SubscriberExt;

    /// Takes the lines of one thread while it exists.
    pub(crate) struct CapturedLines {
        written: Written,
        _subscriber: tracing::subscriber::DefaultGuard,
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl CapturedLines {
        /// For a person, without color.
        pub(crate) fn human() -> Self {
            Self::new(LineFormat::Human { color: false })
        }

        fn new(format: LineFormat) -> Self {
            let written = Written::default();
            let layer = LineLayer::new(written.clone(), format);
            let subscriber = tracing_subscriber::registry().with(layer);
            Self {
                written,
                _subscriber: tracing::subscriber::set_default(subscriber),
            }
        }

        /// The lines so far.
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.written.0.lock().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes, in this format.
    pub(in crate::telemetry) fn logged(format: LineFormat, log: impl FnOnce()) -> String {
        let lines = CapturedLines::new(format);
        log();
        lines.text()
    }

    fn log_in_spans() {
        let _connection = tracing::error_span!("connection", connection = 1, gateway = "gw1:443");
        let _connection = _connection.enter();
        let span = tracing::error_span!(
            "request",
            forward = "outer",
            request_id = tracing::field::Empty
        );
        span.record("request_id", "7f\n3a");
        let _request = span.enter();
        tracing::warn!(
            forward = "jira",
            status = 502,
            last = true,
            cause = "it is \"down\"",
            "a request failed"
        );
    }

    /// The fields of all spans reach the sentence and the fields of each format, and the event's own win.
    #[test]
    fn a_line_names_the_spans_that_it_lies_in() {
        let sentence = "forward jira, connection 1, gateway gw1:443: a request failed: it is \"down\" (status 502, last true, request id \"7f 3a\")";
        let human = logged(LineFormat::Human { color: false }, log_in_spans);
        assert!(
            human.ends_with(&format!("  WARN {}: {sentence}\n", module_path!())),
            "{human}"
        );
        let colored = logged(LineFormat::Human { color: true }, log_in_spans);
        let expected = format!(
            "\x1b[33m WARN\x1b[0m \x1b[2m{}:\x1b[0m {sentence}\n",
            module_path!()
        );
        assert!(
            colored.starts_with("\x1b[2m20") && colored.ends_with(&expected),
            "{colored}"
        );
        let entry = logged(LineFormat::Journal, log_in_spans);
        let lines: Vec<&str> = entry.lines().collect();
        assert!(lines.contains(&&*format!("MESSAGE={sentence}")), "{entry}");
        for wanted in [
            "F_FORWARD=jira",
            "F_CONNECTION=1",
            "F_GATEWAY=gw1:443",
            "F_REQUEST_ID=7f 3a",
        ] {
            let name = wanted.split_inclusive('=').next().unwrap();
            let of_this_name = lines.iter().filter(|line| line.starts_with(name));
            assert_eq!(of_this_name.collect::<Vec<_>>(), [&wanted], "{entry}");
        }
    }

    #[test]
    fn a_json_line_has_the_fields_of_event_and_spans_at_its_top() {
        let line = logged(LineFormat::Json, log_in_spans);
        let (timestamp, rest) = line.split_once(",").unwrap();
        assert!(timestamp.starts_with("{\"timestamp\":\"20") && timestamp.ends_with("Z\""));
        let expected = format!(
            "\"level\":\"WARN\",\"message\":\"a request failed\",\"forward\":\"jira\",\"status\":502,\"last\":true,\
             \"cause\":\"it is \\\"down\\\"\",\"request_id\":\"7f\\n3a\",\"connection\":1,\"gateway\":\"gw1:443\",\
             \"target\":\"{}\"}}\n",
            module_path!()
        );
        assert_eq!(rest, expected);
    }
}
