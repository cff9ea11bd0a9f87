//! The `cjson` of Redis: 14 digits, `{}` for an empty table, `\/` for a slash.

use mlua::{Lua, LuaString, Result as LuaResult, Table, Value};

const DEEPEST: usize = 1_000;

pub(super) fn library(lua: &Lua) -> LuaResult<Table> {
    let table = lua.create_table()?;
    table.set("null", Value::NULL)?;
    table.set(
        "encode",
        lua.create_function(|lua, value: Value| {
            let mut out = Vec::new();
            encode(&value, &mut out, 0)?;
            lua.create_string(out)
        })?,
    )?;
    table.set(
        "decode",
        lua.create_function(|lua, text: LuaString| {
            let value: serde_json::Value =
                serde_json::from_slice(&text.as_bytes()).map_err(mlua::Error::runtime)?;
            decode(lua, &value)
        })?,
    )?;
    Ok(table)
}

fn decode(lua: &Lua, value: &serde_json::Value) -> LuaResult<Value> {
    Ok(match value {
        serde_json::Value::Null => Value::NULL,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(values) => {
            let table = lua.create_table_with_capacity(values.len(), 0)?;
            for (index, value) in values.iter().enumerate() {
                table.raw_set(index + 1, decode(lua, value)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(fields) => {
            let table = lua.create_table_with_capacity(0, fields.len())?;
            for (name, value) in fields {
                table.raw_set(name.as_str(), decode(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

fn encode(value: &Value, out: &mut Vec<u8>, depth: usize) -> LuaResult<()> {
    match value {
        Value::Nil => out.extend_from_slice(b"null"),
        Value::LightUserData(null) if null.0.is_null() => out.extend_from_slice(b"null"),
        Value::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Integer(number) => out.extend_from_slice(general(*number as f64, 14).as_bytes()),
        Value::Number(number) if number.is_finite() => {
            out.extend_from_slice(general(*number, 14).as_bytes());
        }
        Value::String(text) => encode_text(&text.as_bytes(), out),
        Value::Table(_) if depth >= DEEPEST => {
            return Err(mlua::Error::runtime("Cannot serialise, excessive depth"));
        }
        Value::Table(table) => encode_table(table, out, depth + 1)?,
        other => {
            return Err(mlua::Error::runtime(format!("Cannot serialise {}", other.type_name())));
        }
    }
    Ok(())
}

fn encode_table(table: &Table, out: &mut Vec<u8>, depth: usize) -> LuaResult<()> {
    let length = table.raw_len();
    if length > 0 {
        out.push(b'[');
        for index in 1..=length {
            if index > 1 {
                out.push(b',');
            }
            encode(&table.raw_get(index)?, out, depth)?;
        }
        out.push(b']');
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    for pair in table.pairs::<LuaString, Value>() {
        let (name, value) = pair?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        encode_text(&name.as_bytes(), out);
        out.push(b':');
        encode(&value, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' | b'/' => out.extend_from_slice(&[b'\\', byte]),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A number as C's `%.{digits}g` writes it.
pub(super) fn general(number: f64, digits: usize) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    if number.fract() == 0.0 && number.abs() < 1e14 {
        return format!("{number:.0}");
    }
    let scientific = format!("{number:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let strip = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", strip(mantissa), exponent.abs());
    }
    strip(&format!("{number:.*}", (digits as i32 - 1 - exponent) as usize))
}
