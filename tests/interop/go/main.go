// go-control-plane's server library over recorded answers of istiod. Commands on stdin:
//
//	load DIR           a snapshot of DIR's cds.pb eds.pb lds.pb rds.pb
//	drop TYPE NAME     the snapshot without a resource (TYPE: CDS EDS LDS RDS)
//	quit
//
// On stdout: `serving`, `has TYPE NAME HASH` for each resource of a snapshot and `set` behind them, `ack TYPE` and `nack TYPE REASON` for what
// the client says.
package main

import (
	"bufio"
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

type kind struct {
	name, url, file string
	empty           func() types.Resource
}

var kinds = []kind{
	{"CDS", resource.ClusterType, "cds.pb", func() types.Resource { return &cluster.Cluster{} }},
	{"EDS", resource.EndpointType, "eds.pb", func() types.Resource { return &endpoint.ClusterLoadAssignment{} }},
	{"LDS", resource.ListenerType, "lds.pb", func() types.Resource { return &listener.Listener{} }},
	{"RDS", resource.RouteType, "rds.pb", func() types.Resource { return &route.RouteConfiguration{} }},
}

func short(url string) string {
	for _, k := range kinds {
		if k.url == url {
			return k.name
		}
	}
	return url
}

var out sync.Mutex

func say(format string, a ...any) {
	out.Lock()
	defer out.Unlock()
	fmt.Printf(format+"\n", a...)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type oneSnapshot struct{}

func (oneSnapshot) ID(*core.Node) string { return "all" }

func load(dir string) map[string]map[string]types.Resource {
	world := map[string]map[string]types.Resource{}
	for _, k := range kinds {
		world[k.url] = map[string]types.Resource{}
		bytes, err := os.ReadFile(filepath.Join(dir, k.file))
		if os.IsNotExist(err) {
			continue // nothing of the type was asked for
		}
		fail(err)
		var recorded discovery.DeltaDiscoveryResponse
		fail(proto.Unmarshal(bytes, &recorded))
		for _, r := range recorded.Resources {
			m := k.empty()
			fail(proto.Unmarshal(r.Resource.Value, m))
			world[k.url][r.Name] = m
		}
	}
	return world
}

var version int

func set(c cache.SnapshotCache, world map[string]map[string]types.Resource) {
	version++
	all := map[resource.Type][]types.Resource{}
	for _, k := range kinds {
		names := []string{}
		for name := range world[k.url] {
			names = append(names, name)
		}
		sort.Strings(names)
		all[k.url] = []types.Resource{}
		for _, name := range names {
			bytes, err := cache.MarshalResource(world[k.url][name])
			fail(err)
			h := fnv.New64a()
			h.Write(bytes)
			say("has %s %s %016x", k.name, name, h.Sum64())
			all[k.url] = append(all[k.url], world[k.url][name])
		}
	}
	snapshot, err := cache.NewSnapshot(fmt.Sprint(version), all)
	fail(err)
	fail(c.SetSnapshot(context.Background(), "all", snapshot))
	say("set")
}

func main() {
	snapshots := cache.NewSnapshotCache(true, oneSnapshot{}, nil)
	callbacks := server.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error {
			if r.ErrorDetail != nil {
				say("nack %s %s", short(r.TypeUrl), strings.ReplaceAll(r.ErrorDetail.Message, "\n", " "))
			} else if r.ResponseNonce != "" {
				say("ack %s", short(r.TypeUrl))
			}
			return nil
		},
	}
	l, err := net.Listen("unix", os.Args[1])
	fail(err)
	s := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(context.Background(), snapshots, callbacks))
	go func() { fail(s.Serve(l)) }()
	say("serving")
	var world map[string]map[string]types.Resource
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		switch {
		case len(words) == 2 && words[0] == "load":
			world = load(words[1])
		case len(words) == 3 && words[0] == "drop":
			for _, k := range kinds {
				if k.name == words[1] {
					delete(world[k.url], words[2])
				}
			}
		default:
			s.Stop()
			return
		}
		set(snapshots, world)
	}
}
