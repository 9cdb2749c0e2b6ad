"""Writes lines.jsonl: code objects of the interpreter that runs this, and its own answer for each instruction.

For each of 3.8 to 3.14: pythonX.Y lines.py >> lines.jsonl
"""

import json
import sys

SOURCE = '''
def plain(a, b):
    c = a + b

    return c


def try_except(connect, log):
    try:
        connection = connect(
            host="h",
            user="u",
        )
    except (ValueError,
            KeyError) as error:
        log(error)
        raise
    finally:
        log("done")
    with connection as c:
        for row in c:
            if row:
                continue
            log(row)
    return [
        x
        for x in c
        if x
    ]


def far():
    first = 1
''' + "\n" * 300 + '''
    second = lambda: (first,
                      2)
    return second


async def waits(pool):
    async with pool.connect() as connection:
        await connection.execute(
            "select 1")
    async for row in connection:
        yield row


def generates(n):
    while n:
        n -= 1
        try:
            yield n
        except GeneratorExit:
            return


class Inner:
    x = 1

    def method(self, *args, **kwargs):
        return self.method(*[a
                             for a in args
                             if a],
                           **{k: v
                              for k, v in kwargs.items()})


def long_body(a):
''' + "\n".join(f"    a = (a + {i} *\n         a.x.y[{i}:{i + 1}])" for i in range(40)) + '''
    return a
'''


def objects(code):
    yield code
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            yield from objects(constant)


def answers(code):
    units = len(code.co_code) // 2
    lines = [0] * units
    if hasattr(code, "co_lines"):
        for start, end, line in code.co_lines():
            for unit in range(start // 2, end // 2):
                lines[unit] = line or 0
        return lines
    import dis

    starts = dict(dis.findlinestarts(code))
    line = code.co_firstlineno
    for unit in range(units):
        line = starts.get(unit * 2, line)
        lines[unit] = line
    return lines


version = "%d.%d" % sys.version_info[:2]
for code in objects(compile(SOURCE, "example.py", "exec")):
    table = code.co_linetable if sys.version_info >= (3, 10) else code.co_lnotab
    lines = answers(code)
    # Enough to see each change, and the end.
    changes = [
        (unit * 2, line)
        for unit, line in enumerate(lines)
        if unit in (0, len(lines) - 1) or lines[unit - 1] != line or lines[unit + 1] != line
    ]
    example = {
        "version": version,
        "function": code.co_name,
        "first_line": code.co_firstlineno,
        "table": list(table),
        "lines": changes,
    }
    print(json.dumps(example, separators=(",", ":")))
