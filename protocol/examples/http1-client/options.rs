//! The command line.

use std::error::Error;

use keepwatch_protocol::http1::BodyLength;
use keepwatch_protocol::http1::client::Request;

/// What is asked, and how often.
#[derive(Default)]
pub(crate) struct Options {
    method: String,
    pub(crate) authority: String,
    path: String,
    fields: Vec<(String, String)>,
    pub(crate) content: Vec<u8>,
    chunked: bool,
    expect_continue: bool,
    upgrade: Option<String>,
    pub(crate) times: usize,
}

impl Options {
    pub(crate) fn from_command_line() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let (method, url) = arguments.next().zip(arguments.next()).ok_or("which METHOD, and which URL?")?;
        let rest = url.strip_prefix("http://").ok_or("only http:// is spoken here")?;
        let (authority, path) = rest.split_at(rest.find('/').ok_or("a URL has a path")?);
        let mut options =
            Self { method, authority: authority.into(), path: path.into(), times: 1, ..Self::default() };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or("an option has a value")?;
            match flag.as_str() {
                "-H" => {
                    let (name, value) = value.split_once(':').ok_or("a field is NAME: VALUE")?;
                    options.fields.push((name.into(), value.trim().into()));
                }
                "-d" | "-c" | "-e" => {
                    options.content = std::fs::read(value)?;
                    options.chunked = flag == "-c";
                    options.expect_continue = flag == "-e";
                }
                "-u" => options.upgrade = Some(value),
                "-n" => options.times = value.parse()?,
                _ => return Err(format!("what is {flag}?").into()),
            }
        }
        Ok(options)
    }

    pub(crate) fn fields(&self) -> Vec<(&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }

    pub(crate) fn request<'a>(&'a self, fields: &'a [(&'a str, &'a [u8])]) -> Request<'a> {
        let length = match self.content.len() as u64 {
            _ if self.chunked => BodyLength::Unknown,
            0 => BodyLength::Empty,
            bytes => BodyLength::Known(bytes),
        };
        Request {
            fields,
            length,
            expect_continue: self.expect_continue,
            upgrade: self.upgrade.as_deref(),
            ..Request::new(&self.method, &self.authority, &self.path)
        }
    }
}
