//! The `cmsgpack` of Redis, in the widest form of each kind: the real one reads what this writes, and
//! sizes are no subject here.

use mlua::{Lua, LuaString, MultiValue, Result as LuaResult, Table, Value};

/// What lies deeper becomes nil.
const DEEPEST: usize = 16;

pub(super) fn library(lua: &Lua) -> LuaResult<Table> {
    let table = lua.create_table()?;
    table.set(
        "pack",
        lua.create_function(|lua, value: Value| {
            let mut out = Vec::with_capacity(2_048);
            pack(&value, &mut out, 0)?;
            lua.create_string(out)
        })?,
    )?;
    table.set(
        "unpack",
        lua.create_function(|lua, text: LuaString| {
            let bytes = text.as_bytes();
            let mut rest: &[u8] = &bytes;
            let mut values = MultiValue::new();
            while !rest.is_empty() {
                values.push_back(unpack(lua, &mut rest)?);
            }
            Ok(values)
        })?,
    )?;
    Ok(table)
}

fn pack(value: &Value, out: &mut Vec<u8>, depth: usize) -> LuaResult<()> {
    match value {
        Value::Table(_) if depth >= DEEPEST => out.push(0xc0),
        Value::Nil => out.push(0xc0),
        Value::Boolean(value) => out.push(0xc2 + u8::from(*value)),
        Value::Integer(number) => {
            out.push(0xd3);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            out.push(0xd3);
            out.extend_from_slice(&(*number as i64).to_be_bytes());
        }
        Value::Number(number) => {
            out.push(0xcb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::String(text) => {
            let bytes = text.as_bytes();
            out.push(0xdb);
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
        Value::Table(table) => pack_table(table, out, depth + 1)?,
        other => {
            return Err(mlua::Error::runtime(format!("cannot pack {}", other.type_name())));
        }
    }
    Ok(())
}

fn pack_table(table: &Table, out: &mut Vec<u8>, depth: usize) -> LuaResult<()> {
    let length = table.raw_len();
    let at = out.len();
    out.extend_from_slice(&[0xdf, 0, 0, 0, 0]);
    let mut count = 0u32;
    let mut is_list = true;
    table.for_each(|key: Value, value: Value| {
        count += 1;
        is_list &= match &key {
            Value::Integer(index) => (1..=length as i64).contains(index),
            Value::Number(index) => {
                index.fract() == 0.0 && *index >= 1.0 && *index <= length as f64
            }
            _ => false,
        };
        if !is_list || length == 0 {
            pack(&key, out, depth)?;
            pack(&value, out, depth)?;
        }
        Ok(())
    })?;
    if is_list && count as usize == length {
        out.truncate(at);
        out.push(0xdd);
        out.extend_from_slice(&count.to_be_bytes());
        for index in 1..=length {
            pack(&table.raw_get(index)?, out, depth)?;
        }
        return Ok(());
    }
    if length > 0 {
        // It looked like a list at first.
        out.truncate(at + 5);
        table.for_each(|key: Value, value: Value| {
            pack(&key, out, depth)?;
            pack(&value, out, depth)
        })?;
    }
    out[at + 1..at + 5].copy_from_slice(&count.to_be_bytes());
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> LuaResult<&'a [u8]> {
    let Some((head, tail)) = rest.split_at_checked(length) else {
        return Err(mlua::Error::runtime("Missing bytes in input."));
    };
    *rest = tail;
    Ok(head)
}

fn number<const N: usize>(rest: &mut &[u8]) -> LuaResult<[u8; N]> {
    take(rest, N)?.try_into().map_err(mlua::Error::runtime)
}

fn unpack(lua: &Lua, rest: &mut &[u8]) -> LuaResult<Value> {
    Ok(match take(rest, 1)?[0] {
        0xc0 => Value::Nil,
        0xc2 => Value::Boolean(false),
        0xc3 => Value::Boolean(true),
        0xd3 => Value::Number(i64::from_be_bytes(number(rest)?) as f64),
        0xcb => Value::Number(f64::from_be_bytes(number(rest)?)),
        0xdb => {
            let length = u32::from_be_bytes(number(rest)?) as usize;
            Value::String(lua.create_string(take(rest, length)?)?)
        }
        0xdd => {
            let length = u32::from_be_bytes(number(rest)?) as usize;
            let table = lua.create_table_with_capacity(length.min(4_096), 0)?;
            for index in 1..=length {
                table.raw_set(index, unpack(lua, rest)?)?;
            }
            Value::Table(table)
        }
        0xdf => {
            let length = u32::from_be_bytes(number(rest)?) as usize;
            let table = lua.create_table_with_capacity(0, length.min(4_096))?;
            for _ in 0..length {
                let key = unpack(lua, rest)?;
                table.raw_set(key, unpack(lua, rest)?)?;
            }
            Value::Table(table)
        }
        _ => return Err(mlua::Error::runtime("Bad data format in input.")),
    })
}
