//! As much JSON as cargo and Berth write to be read here.

use anyhow::{Result, bail};

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
        let value = reader.value()?;
        reader.space();
        if reader.at != text.len() {
            bail!("more after the JSON value, at byte {}", reader.at);
        }
        Ok(value)
    }

    /// The value at `key`; `Null` when there is none.
    pub fn at(&self, key: &str) -> &Json {
        match self {
            Self::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map_or(&Self::Null, |(_, value)| value),
            _ => &Self::Null,
        }
    }

    pub fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    pub fn list(&self) -> &[Json] {
        if let Self::List(list) = self { list } else { &[] }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<u8> {
        let Some(byte) = self.bytes.get(self.at) else { bail!("the JSON ends early") };
        self.at += 1;
        Ok(*byte)
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            bail!("no JSON value at byte {}", self.at);
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self) -> Result<Json> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => {
                self.at += 1;
                let mut pairs = Vec::new();
                while self.more(b'}', pairs.is_empty())? {
                    self.space();
                    let key = self.string()?;
                    self.space();
                    if self.next()? != b':' {
                        bail!("no colon at byte {}", self.at);
                    }
                    pairs.push((key, self.value()?));
                }
                Ok(Json::Object(pairs))
            }
            Some(b'[') => {
                self.at += 1;
                let mut list = Vec::new();
                while self.more(b']', list.is_empty())? {
                    list.push(self.value()?);
                }
                Ok(Json::List(list))
            }
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => {
                let from = self.at;
                while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_digit() || b"+-.eE".contains(b)) {
                    self.at += 1;
                }
                let text = std::str::from_utf8(&self.bytes[from..self.at])?;
                Ok(Json::Number(text.parse()?))
            }
        }
    }

    /// Whether another element comes before `end`.
    fn more(&mut self, end: u8, first: bool) -> Result<bool> {
        self.space();
        match self.bytes.get(self.at) {
            Some(byte) if *byte == end => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => bail!("no comma at byte {}", self.at),
        }
    }

    fn string(&mut self) -> Result<String> {
        if self.next()? != b'"' {
            bail!("no string at byte {}", self.at);
        }
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(String::from_utf8(text)?),
                b'\\' => match self.next()? {
                    b'n' => text.push(b'\n'),
                    b't' => text.push(b'\t'),
                    b'r' => text.push(b'\r'),
                    b'b' => text.push(8),
                    b'f' => text.push(12),
                    b'u' => {
                        let mut code = 0;
                        for _ in 0..4 {
                            let Some(digit) = char::from(self.next()?).to_digit(16) else { bail!("a broken escape") };
                            code = code * 16 + digit;
                        }
                        // Half of a pair stands for a character that nothing read here has.
                        let shown = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                        text.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    other => text.push(other),
                },
                byte => text.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_nest_and_escapes_are_undone() {
        let json = Json::parse(r#"{"a": [1, -2.5e1, true, null], "b": {"c": "x\n\"\u00e9"}, "d": []}"#).unwrap();
        assert_eq!(json.at("a").list()[1], Json::Number(-25.0));
        assert_eq!(json.at("b").at("c").text(), "x\n\"é");
        assert!(json.at("d").list().is_empty() && json.at("e") == &Json::Null);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        for bad in ["", "{", "[1,", "{\"a\"}", "\"x", "tru", "{} {}", "[1 2]"] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }
}
