#!/usr/bin/env bash
# Proves that a built libcrossdock.so exports crossdock's public names and nothing else: check_symbols.sh LIBRARY
set -euo pipefail

library=${1:?path of libcrossdock.so}

exported=$(nm --dynamic --defined-only --extern-only --demangle "$library" | cut -d' ' -f3-)
foreign=$(grep -vE '^((typeinfo( name)?|vtable) for )?crossdock::' <<< "$exported" || true)
if [ -n "$foreign" ]; then
  echo "check_symbols: $library exports what is not crossdock's:" >&2
  echo "$foreign" >&2
  exit 1
fi

# One name of each kind, so that an empty or half-empty library does not pass.
required=('crossdock::version()' 'crossdock::read_environment()' 'crossdock::Tensor::description[abi:cxx11]() const'
  'crossdock::make_in_process_bootstraps(int)' 'crossdock::get_dispatch_config(int, int)'
  'crossdock::Buffer::destroy()' 'typeinfo for crossdock::Error' 'vtable for crossdock::Bootstrap')
for name in "${required[@]}"; do
  if ! grep -qxF -- "$name" <<< "$exported"; then
    echo "check_symbols: $library does not export '$name'" >&2
    exit 1
  fi
done
echo "check_symbols: $(wc -l <<< "$exported") exported names, all of them crossdock's"
