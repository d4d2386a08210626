"""Hooks in Lua: upyun/slardar's scripts, on LuaJIT's interpreter, contained."""
