"""leak_gevent.py HOST PORT: leaks PyMySQL connections that greenlets of one thread open."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import gevent  # noqa: E402
import pymysql  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from commands import serve  # noqa: E402


def find_order():
    connection = pymysql.connect(user="root", host=sys.argv[1], port=int(sys.argv[2]))
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        cursor.fetchone()
    return connection  # the bug: nobody closes it


# So that waiting for a command does not hold up the greenlets.
sys.stdin = FileObject(sys.stdin)
serve(lambda: gevent.spawn(find_order).get())
