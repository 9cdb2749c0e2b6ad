<?php
// What the PHP scenarios share: waiting for the word to go, and the truth about leaks.

function go(): void
{
    echo "READY\n";
    fgets(STDIN);
}

function leaked(int $count): void
{
    echo "LEAKED $count ", getmypid(), "\n";
}
