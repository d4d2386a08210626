"""What must hold for the text of the Lua files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lupa.luajit21 import LuaRuntime

import slardar.hooks.lua

FILES = sorted(Path(slardar.hooks.lua.__file__).parent.glob("*.lua"))

#: Answers the globals that a chunk's functions use, from their bytecode.
GLOBALS = """
local util, bit = require("jit.util"), require("bit")
local funcbc, funck = util.funcbc, util.funck
local function opcode(text)
    local found = {}
    for pc = 1, 3 do
        local ins = funcbc(loadstring(text), pc)
        found[pc] = ins and bit.band(ins, 0xff)
    end
    return found
end
local get, set = opcode("return x")[1], opcode("x = f")[2]
local function walk(proto, out, inner)
    local pc = 1
    while true do
        local ins = funcbc(proto, pc)
        if not ins then break end
        local op = bit.band(ins, 0xff)
        if inner and (op == get or op == set) then
            out[#out + 1] = funck(proto, -bit.rshift(ins, 16) - 1)
        end
        pc = pc + 1
    end
    local n = -1
    while true do
        local value = funck(proto, n)
        if value == nil then break end
        if type(value) == "proto" then walk(value, out, true) end
        n = n - 1
    end
end
return function(text)
    local out = {}
    walk(assert(loadstring(text)), out, false)
    return table.concat(out, " ")
end
"""


@pytest.fixture(scope="module")
def used_globals() -> Any:
    """The globals that functions in a Lua text use."""
    return LuaRuntime(encoding="latin-1").execute(GLOBALS)


def test_globals_are_found(used_globals: Any) -> None:
    """The check below finds a global that is read and one that is written, but no locals."""
    assert used_globals("local a = x return function() local b = a return pairs(b) end") == "pairs"
    assert used_globals("return function() y = 1 end") == "y"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_function_uses_globals(path: Path, used_globals: Any) -> None:
    """No function of the Lua files uses globals, which are gone when scripts run."""
    assert used_globals(path.read_text(encoding="ascii")) == ""
