//! V8's heap as far as function names need it, by what the program publishes for debuggers (`v8dbg_…`): where a field
//! is, and which number a type has. A constant that a version lacks is known as absent.
//!
//! Objects move and die. So each one is doubted before it is believed: its map must be a map, its type the right one.
//! What fails is left out, never guessed.
//!
//! <https://github.com/v8/v8/blob/11.3.244/tools/gen-postmortem-metadata.py>

#![forbid(unsafe_code)]

use crate::callsite::{mapped::Symbols, process_memory::Memory};

/// Longest name or path, in characters.
const MAX_TEXT: u32 = 1024;
/// Strings made of strings are followed to this depth.
const MAX_PARTS: u32 = 8;

/// Offsets from an object's first byte, and numbers of types.
#[derive(Clone, Copy, Debug)]
pub struct Heap {
    /// From a frame pointer to the function, and to the context or the frame's kind; negative.
    pub frame_function: i32,
    /// Likewise.
    pub frame_context: i32,
    /// From a frame pointer to the byte code, where it is interpreted.
    pub frame_code: i32,
    /// Likewise to the place in it.
    pub frame_offset: i32,
    tag: u64,
    tag_mask: u64,
    small_shift: u32,
    map: u64,
    map_type: u64,
    map_of_maps: u16,
    function: u16,
    function_shared: u64,
    shared: u16,
    shared_name: u64,
    shared_script: u64,
    scope: u16,
    script: u16,
    script_name: u64,
    script_source: u64,
    /// Byte code.
    pub code: u16,
    code_data: u64,
    first_non_string: u16,
    string_length: u64,
    string_characters: u64,
    string_first: u64,
    string_second: u64,
    string_thin: u64,
}

/// A string's form: <https://github.com/v8/v8/blob/11.3.244/src/objects/instance-type.h>
mod form {
    pub const MASK: u16 = 7;
    pub const SEQUENCE: u16 = 0;
    pub const PAIR: u16 = 1;
    pub const THIN: u16 = 5;
    pub const ONE_BYTE: u16 = 8;
}

/// One of the numbers that V8 publishes for debuggers.
pub(super) fn published(memory: &impl Memory, symbols: &Symbols, name: &str) -> Option<i32> {
    let address = symbols.address(memory, &format!("v8dbg_{name}"))?;
    memory.u32(address).map(u32::cast_signed)
}

impl Heap {
    /// The numbers of Node 20.20, for tests and for whoever fuzzes it: of a process they are read.
    pub const NODE_20: Self = Self {
        frame_function: -16,
        frame_context: -8,
        frame_code: -32,
        frame_offset: -40,
        tag: 1,
        tag_mask: 3,
        small_shift: 32,
        map: 0,
        map_type: 12,
        map_of_maps: 256,
        function: 2066,
        function_shared: 24,
        shared: 262,
        shared_name: 16,
        shared_script: 32,
        scope: 261,
        script: 167,
        script_name: 16,
        script_source: 8,
        code: 191,
        code_data: 54,
        first_non_string: 128,
        string_length: 12,
        string_characters: 16,
        string_first: 16,
        string_second: 24,
        string_thin: 16,
    };

    /// Reads what a program publishes. `None` when it is not V8, or lacks something.
    pub fn of(memory: &impl Memory, symbols: &Symbols) -> Option<Self> {
        let number = |name: &str| published(memory, symbols, name);
        let offset = |name: &str| u64::try_from(number(name)?).ok();
        let kind = |name: &str| u16::try_from(number(name)?).ok();
        let tag = offset("HeapObjectTag")?;
        Some(Self {
            frame_function: number("off_fp_function")?,
            frame_context: number("off_fp_context")?,
            frame_code: number("off_fp_bytecode_array")?,
            frame_offset: number("off_fp_bytecode_offset")?,
            tag,
            tag_mask: offset("HeapObjectTagMask")?,
            small_shift: u32::try_from(number("SmiShiftSize")?.checked_add(number("SmiValueShift")?)?)
                .ok()?
                .min(63),
            // Every object begins with it.
            map: offset("class_HeapObject__map__Map").unwrap_or(0),
            map_type: offset("class_Map__instance_type__uint16_t")?,
            map_of_maps: kind("type_Map__MAP_TYPE").unwrap_or(u16::MAX),
            function: kind("type_JSFunction__JS_FUNCTION_TYPE")?,
            function_shared: offset("class_JSFunction__shared__SharedFunctionInfo")?,
            shared: kind("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE")?,
            shared_name: offset("class_SharedFunctionInfo__name_or_scope_info__Object").or_else(|| {
                offset("class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_")
            })?,
            shared_script: offset("class_SharedFunctionInfo__script_or_debug_info__HeapObject")
                .or_else(|| offset("class_SharedFunctionInfo__script__HeapObject"))
                .or_else(|| offset("class_SharedFunctionInfo__script__Tagged_HeapObject_"))?,
            scope: kind("type_ScopeInfo__SCOPE_INFO_TYPE")?,
            script: kind("type_Script__SCRIPT_TYPE")?,
            script_name: offset("class_Script__name__Object")?,
            script_source: offset("class_Script__source__Object")?,
            code: kind("type_BytecodeArray__BYTECODE_ARRAY_TYPE")?,
            code_data: offset("class_BytecodeArray__data__uintptr_t")?,
            first_non_string: kind("FirstNonstringType")?,
            string_length: offset("class_String__length__int32_t")?,
            string_characters: offset("class_SeqOneByteString__chars__char")?,
            string_first: offset("class_ConsString__first__String")?,
            string_second: offset("class_ConsString__second__String")?,
            string_thin: offset("class_ThinString__actual__String")?,
        })
    }

    /// Whether a word refers to an object.
    #[must_use]
    pub fn is_object(&self, word: u64) -> bool {
        word & self.tag_mask == self.tag
    }

    /// A small number out of a word that is one.
    #[must_use]
    pub fn small(&self, word: u64) -> Option<i64> {
        (word & 1 == 0).then(|| word.cast_signed() >> self.small_shift)
    }

    /// Address of an object's field.
    pub(super) fn at(&self, object: u64, offset: u64) -> Option<u64> {
        self.is_object(object).then_some(())?;
        object.checked_sub(self.tag)?.checked_add(offset)
    }

    pub(super) fn field(&self, memory: &impl Memory, object: u64, offset: u64) -> Option<u64> {
        memory.u64(self.at(object, offset)?)
    }

    /// An object's map, which tells its type and size; ask [`kind`](Self::kind) first whether it is one.
    pub(super) fn map_of(&self, memory: &impl Memory, object: u64) -> Option<u64> {
        self.field(memory, object, self.map)
    }

    /// The number of an object's type.
    pub(super) fn kind(&self, memory: &impl Memory, object: u64) -> Option<u16> {
        let map = self.field(memory, object, self.map)?;
        let kind = memory.u16(self.at(map, self.map_type)?)?;
        // The map of a map is a map, and the only one that is its own.
        let map_of_map = self.field(memory, map, self.map)?;
        let own = self.field(memory, map_of_map, self.map)? == map_of_map;
        let known = self.map_of_maps == u16::MAX
            || memory.u16(self.at(map_of_map, self.map_type)?)? == self.map_of_maps;
        (own && known).then_some(kind)
    }

    /// The object, if it is of this type.
    pub(super) fn is(&self, memory: &impl Memory, object: u64, kind: u16) -> Option<u64> {
        (self.kind(memory, object)? == kind).then_some(object)
    }

    /// What all closures of one function share.
    pub fn shared(&self, memory: &impl Memory, function: u64) -> Option<u64> {
        /// Constructors of classes, promises and arrays follow plain functions.
        const KINDS_OF_FUNCTIONS: u16 = 24;
        let kind = self.kind(memory, function)?;
        (self.function..self.function.saturating_add(KINDS_OF_FUNCTIONS))
            .contains(&kind)
            .then_some(())?;
        self.is(
            memory,
            self.field(memory, function, self.function_shared)?,
            self.shared,
        )
    }

    /// The script that a function is from; builtin functions are from none.
    pub fn script(&self, memory: &impl Memory, shared: u64) -> Option<u64> {
        self.is(
            memory,
            self.field(memory, shared, self.shared_script)?,
            self.script,
        )
    }

    /// A script's path or URL.
    pub fn script_name(&self, memory: &impl Memory, script: u64) -> Option<String> {
        self.text(memory, self.field(memory, script, self.script_name)?)
    }

    /// A function's name, or the one that the compiler inferred; `None` for a function without.
    pub fn name(&self, memory: &impl Memory, shared: u64) -> Option<String> {
        let name = self.field(memory, shared, self.shared_name)?;
        match self.kind(memory, name)? {
            kind if kind < self.first_non_string => self.text(memory, name),
            kind if kind == self.scope => self.name_in_scope(memory, name),
            _ => None,
        }
        .filter(|name| !name.is_empty())
    }

    /// Behind a scope's local names come, each where there is one: a class's variable, the function's name and where it
    /// is kept, the inferred name. The first string is it.
    /// <https://github.com/v8/v8/blob/11.3.244/src/objects/scope-info.tq>
    fn name_in_scope(&self, memory: &impl Memory, scope: u64) -> Option<String> {
        const FLAGS: u64 = 8;
        const HEADER: u64 = 8 + 3 * 8;
        const LOCALS: u64 = 8 + 2 * 8;
        /// From this number on the names are in a table of their own.
        const MAX_INLINED: u64 = 75;
        /// A class's variable: bit 10 of the flags. It is a string, and no function's name.
        const CLASS_VARIABLE: i64 = 1 << 10;
        let flags = self.small(self.field(memory, scope, FLAGS)?)?;
        let locals = u64::try_from(self.small(self.field(memory, scope, LOCALS)?)?).ok()?;
        if locals > 100_000 {
            return None;
        }
        let names = if locals < MAX_INLINED { locals } else { 1 };
        let first = u64::from(flags & CLASS_VARIABLE != 0);
        (first..first + 3).find_map(|number| {
            let slot = self.field(memory, scope, HEADER + 8 * (names + locals + number))?;
            self.text(memory, slot).filter(|name| !name.is_empty())
        })
    }

    /// A string's text, as far as it is in the heap.
    pub fn text(&self, memory: &impl Memory, string: u64) -> Option<String> {
        let mut text = String::new();
        self.append(memory, string, MAX_PARTS, &mut text)?;
        (!text.contains(char::is_control)).then_some(text)
    }

    fn append(&self, memory: &impl Memory, string: u64, parts: u32, text: &mut String) -> Option<()> {
        let parts = parts.checked_sub(1)?;
        let kind = self
            .kind(memory, string)
            .filter(|kind| *kind < self.first_non_string)?;
        match kind & form::MASK {
            form::SEQUENCE => {
                let length = memory.u32(self.at(string, self.string_length)?)?;
                if length > MAX_TEXT || text.len() > MAX_TEXT as usize {
                    return None;
                }
                let at = self.at(string, self.string_characters)?;
                if kind & form::ONE_BYTE != 0 {
                    // Latin-1, whose characters have Unicode's numbers.
                    text.extend(memory.vector(at, length as usize)?.into_iter().map(char::from));
                } else {
                    let bytes = memory.vector(at, 2 * length as usize)?;
                    let units = bytes
                        .chunks_exact(2)
                        .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
                    text.extend(
                        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)),
                    );
                }
                Some(())
            }
            form::PAIR => {
                self.append(
                    memory,
                    self.field(memory, string, self.string_first)?,
                    parts,
                    text,
                )?;
                self.append(
                    memory,
                    self.field(memory, string, self.string_second)?,
                    parts,
                    text,
                )
            }
            form::THIN => self.append(memory, self.field(memory, string, self.string_thin)?, parts, text),
            // A part of another string, or outside the heap: neither names nor paths are.
            _ => None,
        }
    }

    /// The line of a place in interpreted code: `code` and `offset` are the frame's two words.
    pub fn line(&self, memory: &impl Memory, script: u64, code: u64, offset: u64) -> Option<u32> {
        let code = self.is(memory, code, self.code)?;
        // Counted from the tagged pointer.
        let offset = u64::try_from(self.small(offset)?).ok()?;
        let index = offset.checked_sub(self.code_data.checked_sub(self.tag)?)?;
        let table = self.field(memory, code, self.code_positions()?)?;
        let position = super::positions::position(self.bytes(memory, table)?.as_slice(), index)?;
        self.line_of(memory, script, position)
    }

    /// The table of source positions is the third object behind the length:
    /// <https://github.com/v8/v8/blob/11.3.244/src/objects/bytecode-array.tq>
    fn code_positions(&self) -> Option<u64> {
        const LENGTH_CONSTANTS_HANDLERS: u64 = 3 * 8;
        // Only this form of the object is known.
        (self.code_data == 54).then_some(8 + LENGTH_CONSTANTS_HANDLERS)
    }

    /// An array of bytes.
    fn bytes(&self, memory: &impl Memory, array: u64) -> Option<Vec<u8>> {
        const MAX: i64 = 1 << 16;
        let length = self.small(self.field(memory, array, 8)?)?;
        if !(1..=MAX).contains(&length) {
            return None;
        }
        memory.vector(self.at(array, 16)?, usize::try_from(length).ok()?)
    }

    /// Counts the lines of a script's source up to a position.
    fn line_of(&self, memory: &impl Memory, script: u64, position: u64) -> Option<u32> {
        const MAX: u64 = 2 << 20;
        let mut source = self.field(memory, script, self.script_source)?;
        let mut kind = self
            .kind(memory, source)
            .filter(|kind| *kind < self.first_non_string)?;
        if kind & form::MASK == form::THIN {
            source = self.field(memory, source, self.string_thin)?;
            kind = self
                .kind(memory, source)
                .filter(|kind| *kind < self.first_non_string)?;
        }
        let length = u64::from(memory.u32(self.at(source, self.string_length)?)?);
        if kind & form::MASK != form::SEQUENCE || position > length.min(MAX) {
            return None;
        }
        let width = if kind & form::ONE_BYTE != 0 { 1 } else { 2 };
        let size = usize::try_from(position).ok()? * width;
        let at = self.at(source, self.string_characters)?;
        let text = memory.vector(at, size)?;
        let end = &[b'\n', 0][..width];
        let lines = text.chunks_exact(width).filter(|unit| *unit == end).count();
        u32::try_from(lines + 1).ok()
    }
}

#[cfg(test)]
pub(super) mod tests;
