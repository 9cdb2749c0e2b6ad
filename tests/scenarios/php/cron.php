<?php
// Healthy: the script of a cron job that runs each second; given a word, it is the job, else it is cron.
if ($argc > 1) {
    (new PDO('pgsql:'))->query('select count(*) from pg_class')->fetch();
    exit;
}
require __DIR__ . '/scenario.php';

go();
while (true) {
    exec(PHP_BINARY . ' ' . escapeshellarg(__FILE__) . ' job');
    sleep(1);
}
