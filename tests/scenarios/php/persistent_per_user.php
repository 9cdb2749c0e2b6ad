<?php
// Leak: persistent connections in a long-running worker, and the visitor's name in the DSN: each DSN has its own.
require __DIR__ . '/scenario.php';

function handle(int $visitor): void
{
    $pdo = new PDO("pgsql:application_name=visitor-$visitor", null, null, [PDO::ATTR_PERSISTENT => true]); // the bug
    $pdo->query('select 1')->fetch();
}

go();
for ($visitor = 1; ; $visitor++) {
    handle($visitor);
    leaked($visitor);
    usleep(700_000);
}
