# tests/cli_kills.sh with fifty kills: five minutes.
KILLS=50 . "$(dirname "$0")/cli_kills.sh"
